"""A running gateway for the flow tests: real sockets, real upstreams, real log; and what must hold after every flow.

`gateway(...)` serves in a thread of this process on free ports; `upstreams()` starts the demo's upstreams in a process
of their own. After each flow the rig checks the books: one intent and one outcome per forwarded exchange, a log that
verifies from leaf 0, no place, permit or reservation left open, no stream left watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from joserfc import jwt
from joserfc.jwk import OKPKey

from gateway import config
from gateway.app import App
from gateway.ledger.counters import MemoryCounters
from gateway.log.note import Note
from gateway.log.verify import verify

ROOT = Path(__file__).resolve().parent.parent
ISSUER = "https://issuer.test"
_T = TypeVar("_T")


def run(job: Coroutine[Any, Any, _T], seconds: float = 60) -> _T:
    """Runs a coroutine to its end, at most `seconds` long."""

    async def bounded() -> _T:
        async with asyncio.timeout(seconds):
            return await job

    return asyncio.run(bounded())


def until(condition: Any, seconds: float = 10.0, what: str = "it") -> None:
    """Waits for something that another thread or process brings about; fails when it does not come."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        pause.wait(0.01)


class Issuer:
    """An identity provider's signing side: an Ed25519 key, its JWKS file, tokens."""

    def __init__(self, folder: Path) -> None:
        self.key = OKPKey.generate_key("Ed25519", {"kid": "rig", "use": "sig", "alg": "Ed25519"})
        self.jwks = folder / "issuer.jwks.json"
        self.jwks.write_text(json.dumps({"keys": [self.key.as_dict(private=False)]}))

    def token(self, subject: str = "planner", roles: tuple[str, ...] = ("reader",), **claims: Any) -> str:
        now = int(time.time())
        body = {
            "iss": ISSUER, "aud": "tollgate", "sub": subject, "client_id": "rig", "org": "acme",
            "roles": list(roles), "iat": now, "exp": now + 3600,
        }  # fmt: skip
        body.update(claims)
        return jwt.encode({"alg": "Ed25519", "kid": "rig", "typ": "JWT"}, body, self.key, algorithms=["Ed25519"])


@dataclass
class Running:
    """A gateway that serves. `records()` is its log so far, oldest first."""

    app: App
    issuer: Issuer
    folder: Path
    settings: dict[str, Any]
    loop: asyncio.AbstractEventLoop = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.app.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.app.admin_port}"

    @property
    def admin_token(self) -> str:
        return (self.folder / "admin.token").read_text().strip()

    def call(self, job: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine on the gateway's own loop."""
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(30)

    def records(self, *, idle: bool = True) -> list[dict[str, Any]]:
        """`idle`: waits until no exchange is open, since an outcome is written after its answer was sent."""
        if idle:
            until(lambda: self.app.status()["exchanges"] == 0, what="the end of all exchanges")
        until(lambda: self.app.log.unsequenced == 0, what="a commit of all records")
        self.call(self.app.log.checkpoint())
        return read_log(self.folder / "var" / "log")

    def last(self, kind: str) -> dict[str, Any]:
        return [record for record in self.records() if record["kind"] == kind][-1]

    def reload(self, **changes: Any) -> None:
        """Changes keys of the configuration and reloads it."""
        self.settings.update(changes)
        self.call(self.app.reload(write(self.folder, self.settings)))


def read_log(directory: Path) -> list[dict[str, Any]]:
    """All published records, by the test's own reading of the entry bundles."""
    size = int(Note.parse((directory / "checkpoint").read_bytes()).text.split(b"\n")[1])
    found: list[dict[str, Any]] = []
    while len(found) < size:
        n, width = len(found) // 256, min(256, size - len(found) // 256 * 256)
        parts = [f"{n % 1000:03d}"]
        while n >= 1000:
            n //= 1000
            parts.insert(0, f"x{n % 1000:03d}")
        base = directory / "tile/entries" / "/".join(parts)
        data = (base if base.is_file() else base.with_name(base.name + ".p") / str(width)).read_bytes()
        while data:
            length = int.from_bytes(data[:2])
            found.append(json.loads(data[2 : 2 + length]))
            data = data[2 + length :]
    return found


def write(folder: Path, settings: dict[str, Any]) -> config.Settings:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return config.load(path, {})


def base_settings(folder: Path, issuer: Issuer) -> dict[str, Any]:
    return {
        "node": "rig",
        "listen": "127.0.0.1:0",
        "data_dir": str(folder / "var"),
        "admin": {"listen": "127.0.0.1:0", "token": {"file": str(folder / "admin.token")}},
        "audit": {"checkpoint": {"every": "100ms"}},
        "trust": {
            "issuers": [
                {
                    "name": "idp", "issuer": ISSUER, "audience": "tollgate",
                    "jwks": {"file": str(issuer.jwks)}, "algorithms": ["EdDSA"],
                }
            ]
        },
        "policy": {"bundle": str(ROOT / "policies" / "rego")},
    }  # fmt: skip


@contextmanager
def gateway(folder: Path, **settings: Any) -> Iterator[Running]:
    """Serves with `settings` (sections of the configuration) until the block ends, then checks the books."""
    issuer = Issuer(folder)
    whole = base_settings(folder, issuer) | settings
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rig-gateway", daemon=True)
    thread.start()

    def call(job: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(job, loop).result(30)

    async def begin() -> App:
        app = App(write(folder, whole))
        await app.start()
        return app

    app = call(begin())
    running = Running(app, issuer, folder, whole, loop)
    try:
        yield running
        until(lambda: app.status()["exchanges"] == 0, what="the end of all exchanges")
        assert len(app.streams) == 0, "a stream is still watched"
        if isinstance(app.counters, MemoryCounters):
            until(lambda: app.counters.held() == (0, 0), what="the end of all places and reservations")
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            call(app.stop(5))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    check_books(folder, app.log.vkey)


def check_books(folder: Path, vkey: str) -> None:
    """What holds after every flow."""
    report = verify(folder / "var" / "log", [vkey])
    assert report.ok, report
    records = read_log(folder / "var" / "log")
    assert [record["seq"] for record in records] == list(range(len(records)))
    intents = [record["exchange"] for record in records if record["kind"] == "intent"]
    outcomes = [record["exchange"] for record in records if record["kind"] == "outcome"]
    refusals = [record["exchange"] for record in records if record["kind"] == "refusal" and "exchange" in record]
    assert sorted(intents) == sorted(outcomes), "an intent without its outcome, or the other way round"
    assert len(set(outcomes)) == len(outcomes)
    assert not set(refusals) & set(intents), "an exchange was refused and forwarded"


def routes_to(bases: dict[str, str]) -> dict[str, Any]:
    """Upstreams and routes of the configuration for the demo's upstreams, one of each protocol."""
    kinds = {
        "weather": ("mcp", bases["weather"] + "/mcp"),
        "concierge": ("a2a", bases["concierge"]),
        "openai": ("openai", bases["model"]),
        "anthropic": ("anthropic", bases["model"]),
        "echo": ("http", bases["model"]),
    }
    return {
        "upstreams": {name: {"url": url, "protocol": protocol} for name, (protocol, url) in kinds.items()},
        "routes": [{"name": name, "match": {"path": f"/{name}"}, "upstream": name} for name in kinds],
    }
