"""Start, drain and TLS of a front."""

from __future__ import annotations

import asyncio
import datetime
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.wire.server import CannotListen, Front, FrontLimits, server_tls
from tests.wire.front_rig import HOST, Listener, RealClock, Wire, listening, recording, request
from tests.wire.test_server_websocket import HANDSHAKE, Sockets

CLOSE = b"Connection: close"


class Nobody:
    def bad_bytes(self, peer: str, reason: str) -> None:
        pass


def front_on(port: int, host: str = HOST) -> Front:
    return Front(recording([]), host=host, port=port, limits=FrontLimits(), events=Nobody(), clock=RealClock())


# start


def test_a_taken_port_says_which_and_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port} is taken .* choose another"):
            asyncio.run(front_on(port).start())


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:8080 is not an address of this machine"):
        asyncio.run(front_on(8080, host="192.0.2.1").start())


def test_it_does_not_start_without_httptools() -> None:
    script = "import sys; sys.modules['httptools'] = None; import gateway.wire.server"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "httptools" in done.stderr


def test_signal_handlers_are_left_alone() -> None:
    async def story() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        front = front_on(0)
        await front.start()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        await front.drain(1)

    asyncio.run(story())


def test_it_runs_on_asyncios_own_loop_too() -> None:
    async def story() -> None:
        front = front_on(0)
        await front.start()
        reader, writer = await asyncio.open_connection(HOST, front.port)
        writer.write(request(b"POST", b"/", b"Content-Length: 2", body=b"ok") + request(b"GET", b"/", CLOSE))
        answers = await reader.read(-1)
        writer.close()
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        reader, writer = await asyncio.open_connection(HOST, front.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + b"x" * 1_000_000)
        assert (await reader.read(-1)).count(b"HTTP/1.1 400 ") == 1
        writer.close()
        await front.drain(1)
        await front.drain(1)

    asyncio.run(story())


# drain


class Slow:
    """Begins to answer, then waits to be let on."""

    def __init__(self) -> None:
        self.gates: list[asyncio.Event] = []
        self.ended: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gate = asyncio.Event()
        try:
            if scope["path"] == "/started":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"a", "more_body": True})
            self.gates.append(gate)
            await gate.wait()
            if scope["path"] != "/started":
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"b"})
            self.ended.append("well")
        except asyncio.CancelledError:
            self.ended.append("cut")
            raise


def draining(front: Listener, seconds: float) -> threading.Thread:
    running = threading.Thread(target=lambda: front.call(lambda: front.front.drain(seconds)))
    running.start()
    front.until(lambda: front.front.door.closing)
    return running


def test_draining_lets_what_is_under_way_finish_and_takes_nobody_new() -> None:
    app = Slow()
    with listening(app) as front:
        idle, begun, waiting = front.connect(), front.connect(), front.connect()
        idle.send(b"GET / HTT")
        begun.send(request(b"GET", b"/started"))
        waiting.send(request(b"GET", b"/waiting"))
        front.until(lambda: len(app.gates) == 2)
        port = front.port
        running = draining(front, 20)
        assert idle.closed()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port), 5)
        begun.send(request(b"GET", b"/another"))
        front.call(lambda: [gate.set() for gate in app.gates])
        [first] = begun.all()
        [second] = waiting.all()
        assert (first.body, second.body) == (b"ab", b"b")
        assert second.values(b"connection") == [b"close"]
        running.join(10)
        assert not running.is_alive()
        assert app.ended == ["well", "well"]
        for wire in (idle, begun, waiting):
            wire.sock.close()


def test_what_outlasts_the_grace_is_cut_and_says_so() -> None:
    app = Slow()
    with listening(app) as front:
        begun, waiting = front.connect(), front.connect()
        begun.send(request(b"GET", b"/started"))
        waiting.send(request(b"GET", b"/waiting"))
        front.until(lambda: len(app.gates) == 2)
        draining(front, 0.05).join(10)
        [answer] = waiting.all()
        assert answer.status == 503
        while begun._more():
            pass
        assert begun.rest.endswith(b"1\r\na\r\n")
        assert app.ended == ["cut", "cut"]
        begun.sock.close()
        waiting.sock.close()


def test_a_websocket_may_finish_within_the_grace_and_is_told_1012_after_it() -> None:
    app = Sockets()
    with listening(app) as front, front.connect() as wire:
        wire.send(request(b"GET", b"/ws", *HANDSHAKE))
        assert wire.interim().startswith(b"HTTP/1.1 101 ")
        draining(front, 0.05).join(10)
        while wire._more():
            pass
        assert wire.rest[0] == 0x88
        assert int.from_bytes(wire.rest[2:4]) == 1012


# TLS


class Authority:
    """A certificate authority of the test's own, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._sign(self.name, self.key, authority=True))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, password: bytes | None = None) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(self._sign(subject, key, authority=False))
        guarded = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, guarded))
        return str(cert_file), str(key_file)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_front(authority: Authority) -> Iterator[Listener]:
    with listening(tls=server_tls(*authority.issue("server")), head_timeout=2) as found:
        yield found


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


def test_tls_carries_the_same_requests(authority: Authority, tls_front: Listener) -> None:
    with tls_front.connect(trusting(authority)) as wire:
        body = b"x" * 200_000
        wire.send(request(b"POST", b"/", b"Content-Length: %d" % len(body), body=body))
        answer = wire.read()
        assert answer is not None
        assert answer.body == body
        assert tls_front.seen[-1].head.scheme == "https"
        assert tls_front.seen[-1].scope["scheme"] == "https"
        wire.send(request(b"GET", b"https://gw.example/abs", CLOSE))
        assert [answer.status for answer in wire.all()] == [200]


def test_a_refusal_over_tls_arrives_and_the_connection_ends(authority: Authority, tls_front: Listener) -> None:
    with tls_front.connect(trusting(authority)) as wire:
        wire.send(request(b"POST", b"/", b"Content-Length: 1", b"Transfer-Encoding: chunked") + b"x" * 200_000)
        assert [answer.status for answer in wire.all()] == [400]


def test_old_tls_and_plain_bytes_get_nowhere(authority: Authority, tls_front: Listener) -> None:
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.deprecated_call():
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        tls_front.connect(context)
    before = len(tls_front.seen)
    with tls_front.connect() as wire:
        wire.send(request(b"GET", b"/", CLOSE))
        while wire._more():
            pass
        assert not wire.rest.startswith(b"HTTP")
    assert len(tls_front.seen) == before


def test_a_handshake_that_does_not_end_is_dropped(tls_front: Listener) -> None:
    with tls_front.connect() as wire:
        wire.send(b"\x16\x03\x01")
        assert wire.closed()


def test_with_a_client_ca_only_its_certificates_get_in(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    context = server_tls(*authority.issue("guarded"), client_ca=str(authority.file))
    with listening(tls=context) as front:
        known = trusting(authority)
        known.load_cert_chain(*authority.issue("client"))
        with front.connect(known) as wire:
            wire.send(request(b"GET", b"/", CLOSE))
            assert [answer.status for answer in wire.all()] == [200]
        foreign = trusting(authority)
        foreign.load_cert_chain(*stranger.issue("foreign"))
        for unknown in (foreign, trusting(authority)):
            with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
                _talk(front.connect(unknown))
        assert len(front.seen) == 1


def _talk(wire: Wire) -> None:
    with wire:
        wire.sock.sendall(request(b"GET", b"/", CLOSE))
        if not wire.sock.recv(100):
            raise ConnectionResetError("closed")


def test_unusable_tls_files_are_named(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("named")
    other_cert, _ = authority.issue("other")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for wrong in ((str(tmp_path / "none.pem"), key), (other_cert, key), (cert, str(empty))):
        with pytest.raises(CannotListen, match=r"tls\.cert .* cannot be used"):
            server_tls(*wrong)
    with pytest.raises(CannotListen, match=r"without a passphrase"):
        server_tls(*authority.issue("locked", password=b"secret"))
    with pytest.raises(CannotListen, match=r"tls\.client_ca .*empty\.pem"):
        server_tls(cert, key, client_ca=str(empty))
