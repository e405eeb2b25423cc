"""The gateway's own keys: Ed25519, a ring for each purpose below `<data_dir>/keys` (contract, ruling 27).

1. A private key is `<purpose>-<kid>.pem` (keyfiles.py says how it lies there); `kid` is the beginning of the RFC 7638
thumbprint, and the name must be true. 2. `ring.json` is the table (keytable.py): which key signs, which are published,
which are revoked. A key is on disk before the table names it; a file that the table does not name is no key of ours.
3. The table is read again when it changes: `refresh` is called often and costs a stat. What cannot be read changes
nothing and is said once. 4. A key that must sign and has no private half refuses; a retired one may have lost it.
Private keys never leave this object.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.trust import keyfiles, keytable
from gateway.trust.keyfiles import KeyRingError, OtherKeySigns
from gateway.trust.keytable import KID_CHARACTERS, PURPOSES, Entry, Event, State, Table, TableError, kid_of
from gateway.trust.ringkey import KeyVault, RingKey

# The log's key is published as a vkey beside the log.
PUBLISHED: Final = ("cards", "manifests", "bundles", "tokens", "webhooks")
SHOWN: Final = (State.CURRENT, State.NEXT, State.RETIRED)  # states of what is published, the one that signs first
OVERLAP_S: Final = 7 * 24 * 3600  # longer than anybody should keep a key set without looking

_NAME = re.compile(rf"({'|'.join(PURPOSES)})-([A-Za-z0-9_-]{{{KID_CHARACTERS}}})\.pem")
_log = logging.getLogger("tollgate.trust")

__all__ = ["OVERLAP_S", "PUBLISHED", "PURPOSES", "KeyRing", "KeyRingError", "KeyVault", "RingKey", "State"]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One state of the ring, swapped whole."""

    table: Table
    keys: Mapping[tuple[str, str], RingKey]
    stamp: tuple[int, ...]


class KeyRing:
    """All keys of one directory. Raises KeyRingError when any that must sign is not as it must be.

    `private=False` reads the table alone: enough to list and publish, and needs no passphrase. `revision` grows with
    every change that was taken over, one that came by the clock alone too.
    """

    def __init__(
        self,
        directory: Path,
        generate: Callable[[], Ed25519PrivateKey] = Ed25519PrivateKey.generate,
        *,
        passphrase: bytes | None = None,
        vault: KeyVault | None = None,
        private: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._generate = generate
        self._passphrase = passphrase
        self._vault = vault
        self._with_private = private
        self._now = now
        self._problem = ""
        self.revision = 1
        keyfiles.open_directory(directory)
        self._loaded = self._load(_Loaded(Table(), {}, ()))
        self._edge = self._loaded.table.edge(now())

    @property
    def _table_path(self) -> Path:
        return self._directory / "ring.json"

    # what there is

    def list(self, purpose: str | None = None) -> Sequence[RingKey]:
        return [key for key in self._loaded.keys.values() if purpose in (None, key.purpose)]

    def state(self, key: RingKey) -> State:
        return key.entry.state(self._now())

    def current(self, purpose: str) -> RingKey | None:
        """The key that signs for this purpose, None when there is none yet."""
        return self._key(self._loaded.table.current(purpose))

    def next(self, purpose: str) -> RingKey | None:
        return self._key(self._loaded.table.next(purpose))

    def published(self, purpose: str) -> Sequence[RingKey]:
        """What verifiers are shown: the current key first, then the next one, then those in their overlap."""
        return self._ordered(purpose, SHOWN)

    def trusted(self, purpose: str) -> Sequence[RingKey]:
        """What a signature of this gateway may have been made with, everything but the revoked; in the same order."""
        return self._ordered(purpose, (*SHOWN, State.KEPT))

    def jwks(self, purposes: Sequence[str] = PUBLISHED) -> dict[str, Json]:
        """The public JWK set of some purposes, current keys first."""
        found = [key for purpose in purposes for key in self.published(purpose)]
        found.sort(key=lambda key: SHOWN.index(self.state(key)))
        return {"keys": [key.jwk() for key in found]}

    def events(self, after: int) -> Sequence[Event]:
        """What was done to the ring since the event of that serial."""
        return [event for event in self._loaded.table.events if event.serial > after]

    # what can be done to it

    def ensure(self, purpose: str) -> RingKey:
        """The current key, made now if this is the first start: that is no event."""
        with self._changing(purpose) as table:
            if table.current(purpose) is None:
                entry = self._made(purpose)
                table = replace(table.added(entry, ""), events=table.events)
                self._write(table)
            elif not self._table_path.exists():
                self._write(table)
        return self._required(purpose)

    def new(self, purpose: str, by: str = "") -> RingKey:
        """Makes the first key of a purpose, which signs at once, or the next one, which is published and does not."""
        with self._changing(purpose) as table:
            table.added(Entry(purpose, "", b"", 0), by)  # refuses before a key is made that nobody wants
            entry = self._made(purpose)
            self._write(table.added(entry, by))
        return self._loaded.keys[purpose, entry.kid]

    def rotate(self, purpose: str, by: str = "", overlap_s: int = OVERLAP_S, former: str | None = None) -> RingKey:
        """The next key signs from now on; it is made now if there is none. The former one stays published so long.
        Raises OtherKeySigns where the one that signs is not `former`, if that is named."""
        with self._changing(purpose) as table:
            current = table.current(purpose)
            if former is not None and current is not None and current.kid != former:
                raise OtherKeySigns(f"{former[:64]} is not the {purpose} key that signs: that is {current.kid}")
            if current is None:
                raise KeyRingError(f"there is no {purpose} key yet: `tollgate keys new {purpose}` makes the first one")
            if table.next(purpose) is None:
                made = self._made(purpose)
                table = replace(table.added(made, by), events=table.events)
            self._write(table.rotated(purpose, int(self._now()), overlap_s, by))
        return self._required(purpose)

    def revoke(self, purpose: str, kid: str, by: str = "") -> RingKey:
        """The key is neither published nor trusted any more; if it signed, the next one does from now on. Returns the
        key that signs."""
        with self._changing(purpose) as table:
            current = table.current(purpose)
            if current is not None and current.kid == kid:
                if table.next(purpose) is None:
                    table = replace(table.added(self._made(purpose), by), events=table.events)
                table = table.rotated(purpose, int(self._now()), 0, by)
            self._write(table.revoked(purpose, kid, int(self._now()), by))
        return self._required(purpose)

    def encrypt(self) -> Sequence[Path]:
        """Puts every private key that is not encrypted under the passphrase; the paths of those it changed."""
        if self._passphrase is None:
            raise KeyRingError("there is no passphrase to encrypt with")
        changed = []
        with keyfiles.locked(self._directory):
            for path in sorted(self._directory.glob("*.pem")):
                if not keyfiles.encrypted(path):
                    private = keyfiles.read_private(path, None)
                    keyfiles.replace_file(path, keyfiles.pem(private, self._passphrase))
                    changed.append(path)
        return changed

    def refresh(self) -> bool:
        """Whether anything is different now: the table on disk, or a key whose overlap ended. Rule 3; any thread."""
        changed = keyfiles.stamp(self._table_path) != self._loaded.stamp
        if changed:
            try:
                self._loaded = self._load(self._loaded)
                self._problem = ""
            except KeyRingError as error:
                if str(error) != self._problem:
                    _log.error("the keys on disk are not in force, the former ones are: %s", error)
                self._problem = str(error)
                changed = False
        if changed or (self._edge is not None and self._now() >= self._edge):
            self._edge = self._loaded.table.edge(self._now())
            self.revision += 1
            return True
        return False

    # inside

    @contextlib.contextmanager
    def _changing(self, purpose: str) -> Iterator[Table]:
        """The newest table, while nobody else changes it."""
        if purpose not in PURPOSES:
            raise KeyRingError(f"there is no purpose {purpose!r}; one of {', '.join(PURPOSES)}")
        with keyfiles.locked(self._directory):
            try:
                yield self._reread()
            except TableError as error:
                raise KeyRingError(str(error)) from None

    def _ordered(self, purpose: str, states: Sequence[State]) -> Sequence[RingKey]:
        """By state, then the newest first."""
        found = [key for key in self.list(purpose)[::-1] if self.state(key) in states]
        return sorted(found, key=lambda key: states.index(self.state(key)))

    def _key(self, entry: Entry | None) -> RingKey | None:
        return None if entry is None else self._loaded.keys[entry.purpose, entry.kid]

    def _required(self, purpose: str) -> RingKey:
        found = self.current(purpose)
        if found is None:
            raise KeyRingError(f"there is no {purpose} key")
        return found

    def _made(self, purpose: str) -> Entry:
        """A new key, on disk or in its vault before anything names it (2)."""
        if self._vault is not None and self._vault.holds(purpose):
            try:
                reference, public = self._vault.make(purpose)
            except OSError as error:
                raise KeyRingError(f"no new {purpose} key: {error}") from None
            return Entry(purpose, kid_of(public), public, int(self._now()), transit=reference)
        private = self._generate()
        public = _public(private)
        entry = Entry(purpose, kid_of(public), public, int(self._now()))
        keyfiles.replace_file(self._path(entry), keyfiles.pem(private, self._passphrase))
        return entry

    def _path(self, entry: Entry) -> Path:
        return self._directory / f"{entry.purpose}-{entry.kid}.pem"

    def _write(self, table: Table) -> None:
        keyfiles.replace_file(self._table_path, keytable.write(table))
        for purpose in PURPOSES:
            (self._directory / f"{purpose}.current").unlink(missing_ok=True)  # of before there was a table
        self._reread()

    def _reread(self) -> Table:
        """The newest table, in force from here on."""
        if keyfiles.stamp(self._table_path) != self._loaded.stamp:
            self._loaded = self._load(self._loaded)
            self._edge = self._loaded.table.edge(self._now())
            self.revision += 1
        return self._loaded.table

    def _load(self, former: _Loaded) -> _Loaded:
        files = dict(self._files())
        found = keyfiles.read_table(self._table_path)
        if found is None:
            table = self._adopted(files)
        else:
            try:
                table = keytable.read(found[0])
            except Malformed as error:
                raise KeyRingError(f"{self._table_path} is damaged: {error}; restore it from a copy") from None
        keys = {}
        for entry in table.entries:
            name = entry.purpose, entry.kid
            known = former.keys.get(name)
            if known is not None and known.entry == entry:
                keys[name] = known
            else:
                keys[name] = RingKey(entry, self._private(entry, files) if self._with_private else None, self._vault)
        return _Loaded(table, keys, () if found is None else found[1])

    def _private(self, entry: Entry, files: Mapping[tuple[str, str], Path]) -> Ed25519PrivateKey | None:
        state = entry.state(self._now())
        path = files.get((entry.purpose, entry.kid))
        if state in (State.KEPT, State.REVOKED) or (path is None and state is State.RETIRED):
            return None
        if entry.transit:
            if self._vault is None and state is not State.RETIRED:
                raise KeyRingError(f"the {entry.purpose} key {entry.kid} is in a vault: write where under vault:")
            return None
        if path is None:  # 4
            raise KeyRingError(f"{self._path(entry)} is missing: put it back, or revoke the key")
        private = keyfiles.read_private(path, self._passphrase)
        if kid_of(_public(private)) != entry.kid:
            raise KeyRingError(f"{path}: the name says another key ({kid_of(_public(private))} it is); rename it")  # 1
        return private

    def _files(self) -> Iterable[tuple[tuple[str, str], Path]]:
        for path in sorted(self._directory.glob("*.pem")):
            named = _NAME.fullmatch(path.name)
            if named is None:
                names = ", ".join(PURPOSES)
                raise KeyRingError(f"{path}: a key is named <purpose>-<kid>.pem with one of {names}; move it away")
            keyfiles.check_private(path)
            yield (named[1], named[2]), path

    def _adopted(self, files: Mapping[tuple[str, str], Path]) -> Table:
        """The table of a directory that has none yet: `<purpose>.current` names the key that signs, or there is one."""
        entries = []
        now = int(self._now())
        for (purpose, kid), path in files.items():
            public = _public(keyfiles.read_private(path, self._passphrase))
            if kid_of(public) != kid:
                raise KeyRingError(f"{path}: the name says another key ({kid_of(public)} it is); rename it")  # 1
            signs = self._said_current(purpose, [item for of, item in files if of == purpose]) == kid
            entry = Entry(purpose, kid, public, now, signs_from=now)
            entries.append(entry if signs else replace(entry, retired=now, published_until=now + OVERLAP_S))
        return Table(tuple(entries))

    def _said_current(self, purpose: str, kids: Sequence[str]) -> str:
        path = self._directory / f"{purpose}.current"
        try:
            kid = path.read_text("ascii").strip()
        except FileNotFoundError:
            if len(kids) > 1:
                raise KeyRingError(
                    f"{self._table_path} is missing and there are {len(kids)} {purpose} keys: restore it from a copy, "
                    f"or write the kid that signs into {path}"
                ) from None
            return kids[0]
        except (OSError, UnicodeDecodeError) as error:
            raise KeyRingError(f"{path} cannot be read: {error}") from None
        if kid not in kids:
            raise KeyRingError(f"{path} names a key that is not there: put back {purpose}-{kid[:64]}.pem or remove it")
        return kid


def _public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
