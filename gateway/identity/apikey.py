"""API keys: `tg_<id>_<43 base64url characters>`, of which a file holds the SHA-256 and who may use them.

1. The file is a strict list of strict entries; an id or a hash that occurs twice, an unknown member, a hash of nothing
or of an example refuses the whole file. 2. A file that went bad leaves the former keys in place and says why.
3. Hashes are compared by `hmac.compare_digest`; the stored hash is no key, because a key is hashed again.
4. `subject.id` is `key:<id>`, whatever else the entry says (contract, ruling 1). 5. A key that is gone, changed or
expired is not alive.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import hmac
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gateway.core.exchange import Principal
from gateway.core.ports import Clock

FILE_LIMIT_BYTES = 4 * 1024 * 1024  # about 20,000 keys
POLL_SECONDS = 0.5  # a key gone from the file reaches open streams within a second (ruling 4)

Load: TypeAlias = "Callable[[bytes], object]"
"""Strict YAML (or JSON) to plain lists, dicts and scalars; raises ValueError for what two readers could differ on."""

_KEY = re.compile(rb"tg_([a-z0-9-]{1,63})_[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[a-z0-9-]{1,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MEMBERS = frozenset(
    {"id", "sha256", "subject", "type", "org", "team", "roles", "agent", "routes", "scopes", "expires"}
)
_log = logging.getLogger("tollgate.identity")


class ApiKeyError(Exception):
    """The file cannot be used; `args[0]` says which entry, what is wrong, and never quotes a hash."""


@dataclass(frozen=True, slots=True)
class _Entry:
    hash: bytes
    principal: Principal


_Table: TypeAlias = "Mapping[bytes, _Entry]"
_NOBODY = _Entry(b"\0" * 32, Principal(id="", type=""))  # compared with for an unknown id: it takes the same time


def mint(ident: str, entropy: Callable[[int], bytes] = os.urandom) -> tuple[str, str]:
    """A new key and the `sha256` for its entry. The key is shown once and kept nowhere."""
    if _ID.fullmatch(ident) is None:
        raise ValueError("an API key's id is 1 to 63 of a-z, 0-9 and -")
    key = f"tg_{ident}_" + base64.urlsafe_b64encode(entropy(32)).rstrip(b"=").decode()
    return key, hashlib.sha256(key.encode()).hexdigest()


class ApiKeys:
    """The keys of one file. Raises ApiKeyError or OSError when the file cannot be used at the start."""

    __slots__ = ("_clock", "_load", "_reading", "_stamp", "_table", "path", "problem")

    def __init__(self, path: Path, load: Load, clock: Clock) -> None:
        self.path = path
        self._load = load
        self._clock = clock
        self._stamp: tuple[int, ...] = ()
        self._table: _Table = {}
        self._reading = threading.Lock()
        self.problem = ""
        self._reload()

    def judge(self, credential: bytes, digest: bytes) -> Principal | None:
        """`digest` is the SHA-256 of `credential`."""
        shaped = _KEY.fullmatch(credential)
        entry = self._table.get(shaped[1], _NOBODY) if shaped is not None else _NOBODY
        if not hmac.compare_digest(entry.hash, digest):  # 3
            return None
        expires = entry.principal.expires
        if expires is not None and self._clock.time() >= expires:
            return None
        return entry.principal

    def alive(self, principal: Principal) -> bool:
        """Rule 5. Expiry is the caller's to check: it needs no file."""
        entry = self._table.get(principal.id.removeprefix("key:").encode())
        return entry is not None and (entry.principal is principal or entry.principal == principal)

    def poll(self) -> None:
        """Reads the file again if it changed; on trouble the former keys stay (rule 2). In any thread, for a large file
        takes seconds: who asks meanwhile is answered by the former keys."""
        try:
            with self._reading:
                self._reload()
            self.problem = ""
        except Exception as error:  # noqa: BLE001 (background: a bad file must not end the watch)
            if str(error) != self.problem:
                _log.warning("API keys of %s stay as they were: %s", self.path, error)
            self.problem = str(error)

    async def watch(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Runs until cancelled."""
        while True:
            await sleep(POLL_SECONDS)
            await asyncio.to_thread(self.poll)

    def _reload(self) -> None:
        stat = self.path.stat()
        stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        if stamp == self._stamp:
            return
        if stat.st_size > FILE_LIMIT_BYTES:
            raise ApiKeyError(f"{self.path} is larger than {FILE_LIMIT_BYTES} bytes")
        try:
            table = _read(self._load(self.path.read_bytes()))
        except (ApiKeyError, ValueError) as error:
            raise ApiKeyError(f"{self.path}: {error}") from None
        for ident, entry in table.items():  # the same object for the same facts: `alive` is asked per frame
            former = self._table.get(ident)
            if former == entry and former is not None:
                table[ident] = former
        self._table, self._stamp = table, stamp


def _read(document: object) -> dict[bytes, _Entry]:
    if document is None:
        return {}  # an empty file: no keys yet
    if not isinstance(document, list):
        raise ApiKeyError("the file is not a list of keys")
    table: dict[bytes, _Entry] = {}
    hashes: set[bytes] = set()
    for number, item in enumerate(document, 1):
        where = f"key {number}"
        if not isinstance(item, dict):
            raise ApiKeyError(f"{where} is not a mapping")
        unknown = [str(name) for name in item if name not in _MEMBERS]
        if unknown:
            raise ApiKeyError(f"{where}: {unknown[0]} is not a member; there are {', '.join(sorted(_MEMBERS))}")
        ident, entry = _entry(item, where)
        if ident in table or entry.hash in hashes:
            raise ApiKeyError(f"{where}: its id or sha256 occurs twice")
        table[ident] = entry
        hashes.add(entry.hash)
    return table


def _entry(item: Mapping[str, object], where: str) -> tuple[bytes, _Entry]:
    ident, hashed = item.get("id"), item.get("sha256")
    if not isinstance(ident, str) or _ID.fullmatch(ident) is None:
        raise ApiKeyError(f"{where}: id is not 1 to 63 of a-z, 0-9 and -")
    where = f"key {ident}"
    if not isinstance(hashed, str) or _HASH.fullmatch(hashed) is None:
        raise ApiKeyError(f"{where}: sha256 is not 64 lower-case hexadecimal digits, in quotes")
    if hashed in _examples(ident):
        raise ApiKeyError(f"{where}: sha256 is that of an empty or example key; make a key of your own")
    _text(item, "subject", where)  # for people who read the file; policy is told key:<id>
    kind = _text(item, "type", where) or "agent"
    if _TYPE.fullmatch(kind) is None or kind == "anonymous":
        raise ApiKeyError(f"{where}: type is not one lower-case word")
    routes = _texts(item, "routes", where)
    principal = Principal(
        id=f"key:{ident}",  # 4
        type=kind,
        org=_text(item, "org", where),
        team=_text(item, "team", where),
        roles=_texts(item, "roles", where) or (),
        agent=_text(item, "agent", where),
        expires=_expiry(item.get("expires"), where),
        credential=hashed,
        routes=None if routes is None else frozenset(routes),
        scopes=frozenset(_texts(item, "scopes", where) or ()),
    )
    return ident.encode(), _Entry(bytes.fromhex(hashed), principal)


def _examples(ident: str) -> set[str]:
    """Hashes of nothing and of the keys that stand in documentation: whoever pasted one gave it to everybody."""
    known = [b"", f"tg_{ident}_".encode(), *(f"tg_{ident}_{letter * 43}".encode() for letter in "Aax0")]
    return {hashlib.sha256(key).hexdigest() for key in known}


def _text(item: Mapping[str, object], name: str, where: str) -> str | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise ApiKeyError(f"{where}: {name} is not short printable text")
    return value


def _texts(item: Mapping[str, object], name: str, where: str) -> tuple[str, ...] | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise ApiKeyError(f"{where}: {name} is not a list")
    found = tuple(_text({name: one}, name, where) for one in value)
    if None in found:
        raise ApiKeyError(f"{where}: {name} has an empty member")
    return tuple(one for one in found if one is not None)


def _expiry(value: object, where: str) -> float | None:
    """RFC 3339 with a zone, a date alone (its first moment, UTC), or epoch seconds."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**53:
        return float(value)
    try:
        when = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is not None and when.tzinfo is None and isinstance(value, str) and _DAY.fullmatch(value):
        when = when.replace(tzinfo=datetime.UTC)
    if when is None or when.tzinfo is None:
        raise ApiKeyError(f"{where}: expires is not a date like 2027-01-31 or 2027-01-31T00:00:00Z")
    return when.timestamp()
