"""The doctor's checks, one function each: from settings to findings. What is wrong is a finding with what to do."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import socket
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from gateway import config
from gateway.assembly_bundles import files_source
from gateway.assembly_keys import make_ring
from gateway.assembly_policy import close_engine, make_engine
from gateway.control.access import TokenRefused, checked, token_from
from gateway.core.bundles import BundleRefused
from gateway.core.canonical import Json
from gateway.core.reasons import EngineFault
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.syntax import PolicyRefused
from gateway.trust.keys import KeyRingError

State = Literal["ok", "warn", "fail"]
GOOD: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

SYNCS = 20
SLOW_SYNC_MS = 20.0  # each strict exchange waits for one: above this the disk sets the pace
LEAST_BYTES = 256 * 1024**2  # at 1 KiB a record, some minutes of heavy traffic
SOME_BYTES = 2 * 1024**3
CONNECT_SECONDS = 2.0
OLDEST_TIME = 1_767_225_600  # 2026-01-01: a clock before this program was written is wrong
AHEAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    state: State
    detail: str

    def record(self) -> dict[str, Json]:
        return {"name": self.name, "state": self.state, "detail": self.detail}


def running(data_dir: Path) -> bool:
    """Whether a gateway works on this data directory now."""
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def data_directory(data_dir: Path, in_use: bool) -> list[Finding]:
    """Writable, and how long a real sync takes. A directory that is not there yet: the one it would be made in."""
    folder = data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    used = "; a gateway is running on it" if in_use else ""
    note = used if folder == data_dir else f" (not there yet, {folder} is)"
    try:
        milliseconds = _sync_milliseconds(folder)
    except OSError as error:
        return [Finding("data directory", FAIL, f"{folder} cannot be written: {error.strerror}; data_dir names it")]
    slow = milliseconds > SLOW_SYNC_MS
    advice = "; each strict exchange waits for one, use a faster local disk" if slow else ""
    return [
        Finding("data directory", GOOD, f"{data_dir}{note}"),
        Finding("sync", WARN if slow else GOOD, f"write and fsync: median {milliseconds:.2f} ms of {SYNCS}{advice}"),
    ]


def _sync_milliseconds(folder: Path) -> float:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            os.write(file.fileno(), b"\0" * 4096)
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def disk(data_dir: Path) -> list[Finding]:
    folder = data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state: State = FAIL if free < LEAST_BYTES else WARN if free < SOME_BYTES else GOOD
    advice = "" if state == GOOD else "; a full disk refuses every call: make room"
    return [Finding("disk space", state, f"{free / 1024**3:.1f} GiB free{advice}")]


def key_files(settings: config.Settings) -> list[Finding]:
    """The signing keys and the admin token, as the start reads them; neither is made."""
    found: list[Finding] = []
    folder = settings.data_dir / "keys"
    if not folder.exists():
        found.append(Finding("keys", GOOD, f"{folder}: the first start makes them"))
    else:
        try:
            keys = [key for key in make_ring(settings, time.time).list() if key.signs]
            far = sum(bool(key.entry.transit) for key in keys)
            how = "encrypted under keys.passphrase" if settings.keys.passphrase is not None else "not encrypted"
            where = f"{len(keys) - far} in {folder}, readable by their owner only, {how}"
            found.append(Finding("keys", GOOD, f"{where}; {far} in the vault" if far else where))
        except (KeyRingError, OSError) as error:
            found.append(Finding("keys", FAIL, str(error)))
    token = settings.admin.token
    try:
        if token.file is None:
            checked(token.reveal(), token.source)
        elif token.file.exists():
            token_from(token.file)
        made = token.file is not None and not token.file.exists()
        found.append(Finding("admin token", GOOD, f"{token.source}" + (": the first start makes it" if made else "")))
    except TokenRefused as error:
        found.append(Finding("admin token", FAIL, str(error)))
    return found


def policy(whole: config.Settings) -> list[Finding]:
    """Loads the policy, and says where it is evaluated (ruling 33) and whether decisions are kept; or asks the engine
    that decides over the network whether it could."""
    settings = whole.policy
    if settings.engine != "embedded":
        return [_engine(settings)]
    try:
        engine = EmbeddedEngine(files_source(whole)(settings), EmbeddedSettings(deadline_s=settings.timeout))
    except (PolicyRefused, BundleRefused, KeyRingError, OSError) as error:
        return [Finding("policy", FAIL, f"{error}")]
    path = engine.evaluation()
    why = f" ({'; '.join(path.because)})" if path.because else ""
    kept = "decisions are kept" if path.kept else f"decisions are not kept ({'; '.join(path.not_kept_because)})"
    return [
        Finding("policy", GOOD, f"{settings.bundle}: {engine.revision}"),
        Finding("policy evaluation", WARN if path.because else GOOD, f"{path.where}{why}; {kept}"),
    ]


def _engine(settings: config.Policy) -> Finding:
    where = f"{settings.engine} at {settings.url}"

    async def ask() -> float:
        engine = make_engine(settings)
        started = time.perf_counter()
        try:
            await engine.check()
            return (time.perf_counter() - started) * 1000
        finally:
            await close_engine(engine)

    try:
        took = asyncio.run(ask())
    except (EngineFault, OSError, RuntimeError) as error:
        return Finding("policy", FAIL, f"{where}: {error}; without it every call is denied")
    return Finding("policy", GOOD, f"{where} answers in {took:.1f} ms; decisions are not kept")


def listeners(settings: config.Settings, in_use: bool) -> list[Finding]:
    found = []
    for name, address in (("listen", settings.listen), ("admin.listen", settings.admin.listen)):
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
                found.append(Finding(name, GOOD, f"{address} is free"))
            except OSError as error:
                if in_use:
                    found.append(Finding(name, GOOD, f"{address} is in use, and the gateway is running"))
                else:
                    what = f"{address}: {error.strerror}; stop what listens there, or choose another port"
                    found.append(Finding(name, FAIL, what))
    return found


def reachable(settings: config.Settings) -> list[Finding]:
    """A TCP connection to every upstream and every issuer's keys, side by side."""
    wanted = [
        (f"upstream {name}", url)
        for name, upstream in settings.upstreams.items()
        for url in upstream.urls or (upstream.url,)
    ]
    wanted += [(f"issuer {item.name}", item.jwks.url) for item in settings.trust.issuers if item.jwks.url is not None]
    with ThreadPoolExecutor(16, "doctor") as pool:
        return list(pool.map(_connect, wanted))


def _connect(wanted: tuple[str, str]) -> Finding:
    name, url = wanted
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    started = time.perf_counter()
    try:
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError as error:
        return Finding(
            name, FAIL, f"{url} cannot be reached: {error.strerror or error}; is it up, is the address right?"
        )
    return Finding(name, GOOD, f"{url} answers in {(time.perf_counter() - started) * 1000:.1f} ms")


def clock(data_dir: Path) -> list[Finding]:
    """Not before this program, and not before what the log was last signed."""
    now = time.time()
    if now < OLDEST_TIME:
        return [
            Finding(
                "clock", FAIL, f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}; set it, tokens depend on it"
            )
        ]
    checkpoint = data_dir / "log" / "checkpoint"
    if checkpoint.exists() and checkpoint.stat().st_mtime > now + AHEAD_SECONDS:
        return [Finding("clock", FAIL, "the log was signed later than now: the clock went back; set it")]
    return [Finding("clock", GOOD, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))]


def open_files(connections: int) -> list[Finding]:
    """Two for each connection, one each way, and some for the log."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * connections + 128
    if limit != resource.RLIM_INFINITY and limit < needed:
        text = f"{limit}, and front.connections {connections} needs {needed}: raise it (ulimit -n {needed})"
        return [Finding("open files", WARN, text)]
    return [Finding("open files", GOOD, f"{limit} allowed, {needed} needed at most")]
