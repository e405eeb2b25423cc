"""Where limits and budgets are counted: in this process, or in a Redis that several gateways share.

The rule: a password never stands in an address; the plain form (`counters: redis://host`) is the section with nothing
else in it, strict.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway import config_values as values
from gateway.config_engines import EngineTls
from gateway.config_schema import Choice, Either, Of, OrWord, Text, option
from gateway.config_secrets import SecretRef
from gateway.config_values import Secret

REDIS_PORT = 6379
LEAST_WAIT, MOST_WAIT = 0.01, 10.0

_DURATION = Text("a duration like 250ms", values.DURATION, values.parse_positive_duration)
_PERCENT = Text("a share like 5%", values.PERCENT, values.parse_percent)
_PREFIX = Text("letters, digits, dots, dashes and underscores", values.NAME)
_USER = re.compile(r"[A-Za-z0-9._~-]{1,64}")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A list of servers that are asked in turn which of them counts."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str = ""
    database: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.hosts)


def parse_redis_url(text: str) -> RedisUrl:
    """`redis://[user@]host[:port][,host[:port]...][/database]`, or `rediss://` for TLS. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("redis", "rediss") or parts.query or parts.fragment or re.search(r"[^\x21-\x7e]", text):
        raise ValueError("not a redis:// or rediss:// address")
    user, at, hosts = parts.netloc.rpartition("@")
    if ":" in user:
        raise ValueError("a password never stands in an address: write the section, with password: {env: NAME}")
    if at and _USER.fullmatch(user) is None:
        raise ValueError("the user's name is not one of letters, digits, '.', '_', '~' and '-'")
    database = parts.path.removeprefix("/") or "0"
    if re.fullmatch(r"[0-9]{1,2}", database) is None:
        raise ValueError("the database is not a number from 0 to 99")
    found = tuple(_host_port(item) for item in hosts.split(","))
    return RedisUrl(found, parts.scheme == "rediss", user, int(database))


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(REDIS_PORT)
    if re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 < int(port) < 65536:
        raise ValueError("a port that is none")
    return values.parse_host(host).strip("[]"), int(port)


_URL = Text("an address like redis://127.0.0.1:6379", parse=parse_redis_url)


@dataclass(frozen=True, slots=True)
class Lease:
    share: float = option(_PERCENT, 0.05, "of a budget that one gateway may hold ahead", shown="5%")
    lasts: float = option(_DURATION, 90.0, "of its own use that it holds ahead, within share", shown="90s")


@dataclass(frozen=True, slots=True)
class Counters:
    url: RedisUrl = option(
        _URL, why="several servers with commas: the one that takes writes counts", shown="redis://127.0.0.1:6379"
    )
    mode: str = option(
        Choice(("strict", "lease")), "strict", "strict: Redis away is 503; lease: goes on within shares", shown="strict"
    )
    password: Secret | None = option(SecretRef(), None, "of Redis's user", example="{env: REDIS_PASSWORD}")
    tls: EngineTls | None = option(Of(EngineTls), None, "for rediss://")
    wait: float = option(_DURATION, 0.25, "how long an exchange may wait for it", shown="250ms")
    prefix: str = option(_PREFIX, "tollgate", "of its keys; who has the same counts together", shown="tollgate")
    lease: Lease = option(Of(Lease), Lease(), "mode lease")


def counters_wrong(found: Counters) -> str:
    if found.tls is not None and not found.url.tls:
        return "tls belongs to a rediss:// url"
    if found.lease != Lease() and found.mode != "lease":
        return "lease belongs to mode: lease"
    if found.lease.share <= 0 or found.lease.share > 0.5:
        return "lease.share is not from above 0% to 50%"
    return "" if LEAST_WAIT <= found.wait <= MOST_WAIT else "wait is not from 10ms to 10s"


@dataclass(frozen=True, slots=True)
class _Plain:
    """`counters: redis://host`."""

    kind: Text = _URL

    def read(self, node: Any, key: str, at: Any) -> Any:
        found = self.kind.read(node, key, at)
        return Counters(url=found) if isinstance(found, RedisUrl) else found

    def schema(self) -> dict[str, Any]:
        return self.kind.schema()


COUNTERS = OrWord("memory", Either(_Plain(), Of(Counters, counters_wrong)))
