"""How a running gateway follows its key ring: what was done with `tollgate keys` takes effect without a restart.

1. The table on disk is looked at twice a second; what cannot be read changes nothing. 2. Every event of the ring is one
record, exactly once over restarts (a crash in between may write it twice): `keys/noted` keeps the last serial whose
record is durable. 3. Then the log is signed by the new key, beside the former one while its overlap lasts, and the
snapshot is built anew, so that key sets, cards and manifests follow. 4. A log that cannot be written holds up nothing
but the record, which is made up for: a key that was revoked is not served on because a disk is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import config
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.own_keys import Unrotatable
from gateway.core.ports import Clock
from gateway.core.reasons import LogUnavailable
from gateway.core.records import timestamp
from gateway.log.note import LogKeys, VerifierKey
from gateway.log.writer import Sequencer
from gateway.trust.keyfiles import OtherKeySigns, replace_file
from gateway.trust.keys import PURPOSES, KeyRing, KeyRingError, RingKey, State
from gateway.trust.keytable import Event

if TYPE_CHECKING:
    from gateway.trust.vault import Vault

LOOK_SECONDS = 0.5

_log = logging.getLogger("tollgate")


class _Transit:
    """The `KeyVault` of a ring: which key of the vault each purpose has."""

    def __init__(self, names: dict[str, str], vault: Vault) -> None:
        self._names = names
        self._vault = vault

    def holds(self, purpose: str) -> bool:
        return purpose in self._names

    def make(self, purpose: str) -> tuple[str, bytes]:
        return self._vault.make(self._names[purpose])

    def sign(self, reference: str, data: bytes) -> bytes:
        return self._vault.sign(reference, data)


def make_ring(settings: config.Settings, now: Callable[[], float], *, private: bool = True) -> KeyRing:
    """Raises KeyRingError."""
    passphrase, vault, transit = settings.keys.passphrase, None, settings.keys.transit
    if settings.vault is not None and private:
        try:
            opened = _opened(settings.vault)
        except (OSError, RuntimeError) as error:
            raise KeyRingError(str(error)) from None
        names = {item.name: getattr(transit, item.name) for item in fields(config.Transit)} if transit else {}
        vault = _Transit({purpose: key for purpose, key in names.items() if key is not None}, opened)
    return KeyRing(
        settings.data_dir / "keys",
        passphrase=passphrase.reveal().encode() if passphrase is not None and private else None,
        vault=vault,
        private=private,
        now=now,
    )


def open_vault(found: config.Vault) -> Callable[[str, str], str]:
    """The `OpenVault` of the configuration. Raises RuntimeError where the extra is not installed."""
    return _opened(found).read


def secret_at(found: config.Vault, name: str) -> Callable[[str], str | None]:
    """What reads the field of that name at a path: None where the vault has no such secret. Raises RuntimeError, and
    what it returns OSError."""
    vault = _opened(found)
    from gateway.trust.vault import NotInVault

    def read(path: str) -> str | None:
        try:
            return vault.read(path, name)
        except NotInVault:
            return None

    return read


def _opened(found: config.Vault) -> Vault:
    try:
        from gateway.trust.vault import Vault, VaultSettings
    except ImportError:
        raise RuntimeError("a vault needs the extra: install tollgate[vault]") from None
    return Vault(
        VaultSettings(
            url=found.url,
            token=found.token.reveal(),
            mount=found.mount,
            transit=found.transit,
            namespace=found.namespace,
            ca=str(found.ca) if found.ca else None,
            timeout_s=found.timeout,
        )
    )


def log_keys(ring: KeyRing, node: str) -> LogKeys:
    """The log's keys as the ring has them now; the first one is made where there is none."""
    current = ring.ensure("log")
    beside = [key for key in ring.published("log") if ring.state(key) is State.RETIRED and key.signs]
    return LogKeys(
        signing=(current, *beside),
        trusted=tuple(str(VerifierKey.of(node, key.public_key())) for key in ring.trusted("log")),
        revoked=tuple(
            str(VerifierKey.of(node, key.public_key())) for key in ring.list("log") if ring.state(key) is State.REVOKED
        ),
    )


class Rotation:
    """`rebuild` puts a snapshot in force that follows the ring."""

    def __init__(
        self,
        ring: KeyRing,
        log: Sequencer,
        node: str,
        keys_dir: Path,
        ids: Ids,
        clock: Clock,
        rebuild: Callable[[], Awaitable[None]],
    ) -> None:
        self._ring = ring
        self._log = log
        self._node = node
        self._noted_path = keys_dir / "noted"
        self._ids = ids
        self._clock = clock
        self._rebuild = rebuild
        self._in_force = ring.revision
        self._signed_by = log_keys(ring, node)
        self._noted = self._last_noted()
        self._following = asyncio.Lock()  # two at once would write a record twice

    async def watch(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self.follow()
            except Exception:  # noqa: BLE001 (a background loop: the keys in force stay so, and the next look tries again)
                _log.exception("the keys cannot be followed")
            await asyncio.sleep(LOOK_SECONDS)

    async def follow(self) -> None:
        """Rules 1 to 4, once."""
        async with self._following:
            await self._follow()

    async def rotate(self, purpose: str, former: str, by: str, overlap_s: int) -> None:
        """As `KeyRing.rotate`, and in force when it returns. Raises KeyRingError, and LogUnavailable before anything
        is done."""
        if not self._log.healthy:
            raise LogUnavailable("the audit log cannot be written")
        async with self._following:
            await asyncio.to_thread(partial(self._ring.rotate, purpose, by=by, overlap_s=overlap_s, former=former))
            await self._follow()

    async def _follow(self) -> None:
        await asyncio.to_thread(self._ring.refresh)
        await self._record()
        if self._ring.revision == self._in_force:
            return
        revision = self._ring.revision
        keys = log_keys(self._ring, self._node)
        if keys != self._signed_by:
            try:
                await self._log.rekey(keys)
            except LogUnavailable as error:  # the next checkpoint that can be published is signed by them
                _log.error("the log is not signed by its new key yet: %s", error)
            self._signed_by = keys
        await self._rebuild()
        self._in_force = revision
        _log.info("the keys changed; the log is signed by %s", self._log.vkey)

    async def _record(self) -> None:
        for event in self._ring.events(self._noted):
            try:
                await self._log.sequenced(self._log.submit(self._record_of(event)))
            except LogUnavailable as error:  # 4
                _log.error("no record yet that %s was done to the %s key: %s", event.action, event.purpose, error)
                return
            self._noted = event.serial
            await asyncio.to_thread(replace_file, self._noted_path, f"{event.serial}\n".encode())

    def _record_of(self, event: Event) -> dict[str, Json]:
        key: dict[str, Json] = {"purpose": event.purpose, "kid": event.kid, "time": timestamp(event.time)}
        if event.former:
            key["former"] = event.former
        if event.purpose == "log":  # who knows the former vkey learns the new one from what it vouches for
            found = next(item for item in self._ring.list("log") if item.kid == event.kid)
            key["vkey"] = str(VerifierKey.of(self._node, found.public_key()))
        record: dict[str, Json] = {
            "kind": "admin",
            "id": self._ids.new(),
            "time": timestamp(self._clock.time()),
            "action": f"admin.{event.action}",
            "resource": {"type": "key", "id": f"{event.purpose}/{event.kid}"},
            "key": key,
        }
        if event.by:
            record["subject"] = {"type": "operator" if ":" in event.by else "admin", "id": event.by}
        return record

    def _last_noted(self) -> int:
        try:
            return int(self._noted_path.read_text("ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise KeyRingError(
                f"{self._noted_path} cannot be read: {error}; remove it, events are recorded anew"
            ) from None


class RunningKeys:
    """The port OwnKeys. `overlap_s` is `keys.overlap` of the configuration in force."""

    def __init__(self, ring: KeyRing, rotation: Rotation, node: str, overlap_s: Callable[[], float]) -> None:
        self._ring = ring
        self._rotation = rotation
        self._node = node
        self._overlap_s = overlap_s

    @property
    def overlap(self) -> float:
        return self._overlap_s()

    def shown(self) -> Sequence[dict[str, Json]]:
        return [self._document(key) for purpose in PURPOSES for key in self._ring.list(purpose)]

    async def rotate(self, purpose: str, kid: str, by: str) -> None:
        try:
            await self._rotation.rotate(purpose, kid, by, int(self.overlap))
        except OtherKeySigns as error:
            raise Unrotatable(str(error), stale=True) from None
        except KeyRingError as error:
            raise Unrotatable(str(error)) from None

    def _document(self, key: RingKey) -> dict[str, Json]:
        entry = key.entry
        found: dict[str, Json] = {"purpose": key.purpose, "kid": key.kid, "state": str(self._ring.state(key))}
        found["created"] = timestamp(entry.made)
        for name in ("signs_from", "retired", "published_until", "revoked"):
            moment = getattr(entry, name)
            if moment is not None:
                found[name] = timestamp(moment)
        found |= {"kept_in": "vault" if entry.transit else "file", "jwk": key.jwk()}
        if key.purpose == "log":
            found["vkey"] = str(VerifierKey.of(self._node, key.public_key()))
        return found
