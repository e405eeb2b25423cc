"""Where Redis is: a cluster, TLS, users with passwords, a replica in the list."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.core.accounts import Ask, CountersUnavailable
from gateway.stores.redis_wire import Server, dial
from tests.ports.counting import budget, charge, closed, place, rate, sliding, taken
from tests.stores.redis_server import Node, Running, free_port, node, server, until


async def one_exchange(gateway: Node, ident: str) -> None:
    of, other = budget(carry=100), budget("agent-day", key=("agent",), period="day")
    asks = [charge(of, 10), charge(other, 10, "planner")]
    given = await taken(gateway.counters, Ask(ident, [rate(), sliding()], [place()], asks))
    assert given.ok
    gateway.counters.close(ident, [closed(ask, 4) for ask in asks])
    [found] = await gateway.counters.balances([(of, asks[0].account)])
    assert (found.settled, found.reserved) == (4, 0)


def test_a_cluster_keeps_all_keys_of_an_exchange_in_one_place_and_is_found_from_any_of_its_servers() -> None:
    async def story(servers: list[Running]) -> None:
        seeds = [servers[0].at(), servers[1].at(), servers[2].at()]
        for order in range(3):  # whichever is asked first says where the slot is
            ask = seeds[order:] + seeds[:order]
            async with node(*ask, name=f"gw-{order}") as gateway:
                if order == 0:
                    await one_exchange(gateway, "x")
                assert gateway.counters.connected
        homes = [one for one in servers if one.client().dbsize()]
        assert len(homes) == 1

        # The slot moves to another server, with its keys: the figures go along, or are told again.
        home, other = homes[0], next(one for one in servers if one is not homes[0])
        slot = int(home.client().execute_command("CLUSTER", "KEYSLOT", "{tollgate}state"))
        ids = {one.port: one.client().execute_command("CLUSTER", "MYID") for one in servers}
        async with node(*seeds, name="gw-3") as gateway:
            home.client().flushall()
            for one in servers:
                one.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[other.port])
            of = budget()
            ask = charge(of, 5)

            async def through() -> bool:
                try:
                    return (await taken(gateway.counters, Ask("moved", [], [], [ask]))).ok
                except CountersUnavailable:
                    return False

            await until(through)
            assert other.client().dbsize()
            gateway.counters.close("moved", [closed(ask, 5)])
            [found] = await gateway.counters.balances([(of, ask.account)])
            assert (found.settled, found.reserved) == (5, 0)

    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        servers = [stack.enter_context(server(*options, port=free_port(55_000))) for _ in range(3)]
        for at, one in enumerate(servers):
            one.client().execute_command("CLUSTER", "ADDSLOTSRANGE", at * 5462, min(16383, at * 5462 + 5461))
            one.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for one in servers[1:]:
            one.client().execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)

        def whole(one: Running) -> bool:
            return b"cluster_state:ok" in raw(one, "CLUSTER", "INFO") and b"cluster_known_nodes:3" in raw(
                one, "CLUSTER", "INFO"
            )

        async def all_of_it() -> None:
            await until(lambda: all(whole(one) for one in servers))
            async with asyncio.timeout(60):
                await story(servers)

        asyncio.run(all_of_it())


def raw(one: Running, *words: str) -> bytes:
    found = subprocess.run(["redis-cli", "-p", str(one.port), *words], capture_output=True, check=True)
    return found.stdout


def test_a_replica_in_the_list_is_passed_over() -> None:
    async def story(primary: Running, replica: Running) -> None:
        async with node(replica.at(), primary.at()) as gateway:
            await one_exchange(gateway, "x")
        assert replica.client().info("replication")["role"] == "slave"

    with server() as primary, server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        asyncio.run(story(primary, replica))


def test_a_user_with_a_password_gets_in_and_a_wrong_one_is_told_without_it() -> None:
    async def story(running: Running) -> None:
        running.client().acl_setuser("tollgate", enabled=True, passwords=["+right"], keys=["*"], categories=["+@all"])
        running.client().acl_setuser("default", enabled=False)
        right = Server("127.0.0.1", running.port, username="tollgate", password="right")
        async with node(right) as gateway:
            await one_exchange(gateway, "x")
        wrong = Server("127.0.0.1", running.port, username="tollgate", password="wrong-secret")
        with pytest.raises(CountersUnavailable) as refused:
            await dial(wrong, lambda _, __: None, 5.0)
        assert refused.value.args[0] == "Redis answered WRONGPASS"
        assert "wrong-secret" not in repr(wrong)

    with server() as running:
        asyncio.run(story(running))


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate of that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


def test_over_tls_the_server_must_carry_the_name_that_was_asked_for(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path, "redis.test")

    async def story(running: Running, port: int) -> None:
        context = ssl.create_default_context(cafile=str(pem))
        right = Server("127.0.0.1", port, context, "redis.test")
        async with node(right) as gateway:
            await one_exchange(gateway, "x")
        with pytest.raises(CountersUnavailable, match="TLS to Redis failed"):
            await dial(Server("127.0.0.1", port, context, "other.test"), lambda _, __: None, 5.0)
        with pytest.raises(CountersUnavailable):
            await dial(Server("127.0.0.1", running.port, context, "redis.test"), lambda _, __: None, 2.0)

    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(pem), "--tls-key-file", str(key))
    with server(*options, "--tls-auth-clients", "no", "--tls-ca-cert-file", str(pem)) as running:
        asyncio.run(story(running, port))
