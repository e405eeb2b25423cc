"""Where issuers' and signers' public keys come from: files and URLs, kept fresh in the background.

1. What cannot be had or believed never replaces what was good: the newest good set serves for `STALE_SECONDS`, then
nothing does and the issuer's callers are told `identity_unavailable`. 2. A token can cause at most one fetch in
`ASKED_SECONDS`, however many unknown kids are sent, and there is one fetch at a time. 3. A fetch has a deadline and a
size; its address comes from the configuration alone, https or loopback, and redirects are refused by the `fetch` that
is handed in. 4. A set that did not change stays the same object, so that what was verified with it stays verified.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.trust.jose import SET_LIMIT_BYTES, KeySet, read_jwks

STALE_SECONDS = 24 * 3600.0  # contract, ruling 3
ASKED_SECONDS = 30.0  # the same
REFRESH_SECONDS = 300.0  # a withdrawn key is gone after this at the latest
RETRY_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)  # after so many failures in a row
FETCH_SECONDS = 10.0
POLL_SECONDS = 0.5  # a key gone from a file reaches open streams within a second (ruling 4)

Fetch: TypeAlias = "Callable[[str], Awaitable[bytes]]"
"""GET of one address: the body of a 200. Follows no redirect, stops at SET_LIMIT_BYTES, raises for everything else."""

_log = logging.getLogger("tollgate.trust")


class _Held:
    """The newest good set and how long it may be believed."""

    __slots__ = ("_clock", "_digest", "_good_at", "keys", "name", "problem")

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.keys: KeySet | None = None
        self.problem = "not read yet"
        self._clock = clock
        self._digest = b""
        self._good_at = 0.0

    def usable(self) -> KeySet | None:
        if self.keys is None or self._clock.monotonic() - self._good_at > STALE_SECONDS:
            return None  # 1
        return self.keys

    def take(self, data: bytes) -> KeySet:
        """The set that is held now. Raises Malformed and keeps what was there."""
        digest = hashlib.sha256(data).digest()
        if self.keys is None or digest != self._digest:  # 4
            self.keys, self._digest = read_jwks(data), digest
            for skipped in self.keys.skipped:
                _log.info("keys of %s: %s", self.name, skipped)
        self.confirm()
        return self.keys

    def confirm(self) -> None:
        self._good_at = self._clock.monotonic()
        if self.problem:
            _log.info("keys of %s are there", self.name)
        self.problem = ""

    def fail(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("keys of %s cannot be had: %s; %s", self.name, problem, self._consequence())
        self.problem = problem

    def _consequence(self) -> str:
        return "the former keys serve on" if self.usable() is not None else "its callers are refused until they can"


class FileKeys:
    """A JWK set in a file, read again when the file changes."""

    __slots__ = ("_held", "_path", "_stamp", "keys")

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._held = _Held(str(path), clock)
        self.keys: KeySet | None = None  # plain, for it is looked at with every request
        self._stamp: tuple[int, ...] = ()
        self.poll()

    @property
    def problem(self) -> str:
        """Why the newest content is not in use, "" when it is."""
        return self._held.problem

    def usable(self) -> KeySet | None:
        return self._held.usable()

    def refresh(self) -> None:
        """A file is polled; no token can make that happen sooner."""

    def poll(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:  # only ever the stamp of what was taken
                self._held.confirm()
                return
            with self._path.open("rb") as file:
                self.keys = self._held.take(file.read(SET_LIMIT_BYTES + 1))
            self._stamp = stamp
        except (OSError, Malformed) as error:
            self._held.fail(str(error))

    def close(self) -> None:
        """Nothing is open between polls."""


class UrlKeys:
    """A JWK set behind a URL. Raises ValueError for an address that may not be asked (rule 3)."""

    __slots__ = ("_asked_at", "_clock", "_due", "_failures", "_fetch", "_held", "_task", "_url", "keys")

    def __init__(self, url: str, fetch: Fetch, clock: Clock) -> None:
        _check_url(url)
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._held = _Held(url, clock)
        self.keys: KeySet | None = None  # plain, for it is looked at with every request
        self._due = clock.monotonic()
        self._asked_at: float | None = None
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str:
        """Why the newest answer is not in use, "" when it is."""
        return self._held.problem

    def usable(self) -> KeySet | None:
        return self._held.usable()

    def refresh(self) -> Awaitable[None] | None:
        """Asked because of a token. Joins a fetch under way, else begins one if the last was not just now (rule 2)."""
        if self._task is None:
            now = self._clock.monotonic()
            if self._asked_at is not None and now - self._asked_at < ASKED_SECONDS:
                return None
            self._asked_at = now
            self._begin()
        return self._joined()

    def poll(self) -> None:
        if self._task is None and self._clock.monotonic() >= self._due:
            self._begin()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._get(), name=f"keys of {self._url}")

    async def _joined(self) -> None:
        if self._task is not None:
            await asyncio.wait((self._task,))  # a caller that goes away does not take the fetch with it

    async def _get(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                data = await self._fetch(self._url)
            self.keys = self._held.take(data)
            self._failures = 0
            self._due = self._clock.monotonic() + REFRESH_SECONDS
        except Exception as error:  # noqa: BLE001 (background: whatever went wrong, the former keys serve on)
            self._held.fail(f"{type(error).__name__}: {error}".removesuffix(": "))
            delay = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
            self._failures += 1
            self._due = self._clock.monotonic() + delay
        finally:
            self._task = None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ValueError(f"a key set's URL must be https (http only on loopback): {parts.scheme}://{parts.hostname}")
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("a key set's URL must name a host and have neither user nor fragment")


class KeySources:
    """All sources by what they are, so that keys survive a reload of the configuration. One `watch` serves them all."""

    __slots__ = ("_clock", "_fetch", "_sources")

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._sources: dict[tuple[str, str], FileKeys | UrlKeys] = {}

    def file(self, path: str) -> FileKeys:
        found = self._sources.get(("file", path))
        if not isinstance(found, FileKeys):
            found = self._sources[("file", path)] = FileKeys(Path(path), self._clock)
        return found

    def url(self, url: str) -> UrlKeys:
        found = self._sources.get(("url", url))
        if not isinstance(found, UrlKeys):
            found = self._sources[("url", url)] = UrlKeys(url, self._fetch, self._clock)
        return found

    def keep(self, used: Collection[FileKeys | UrlKeys]) -> None:
        """Forgets every source that is not `used` any more."""
        for name, source in list(self._sources.items()):
            if source not in used:
                source.close()
                del self._sources[name]

    def poll(self) -> None:
        for source in list(self._sources.values()):
            source.poll()

    async def watch(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Runs until cancelled; the first round begins at once."""
        try:
            while True:
                self.poll()
                await sleep(POLL_SECONDS)
        finally:
            for source in list(self._sources.values()):  # a thread may be reading a new configuration
                source.close()
