"""Bundles in a running gateway: from the store or the configuration to what the engine is built from, and their life.

1. An activated bundle comes before whatever the configuration names, also after a restart, and is verified again each
time it is taken up: everything but its number (it was accepted), its window (it was in force) and its tests (they are
of the same bytes). Where it cannot be verified any more nothing else decides in its place: the gateway does not start.
2. A push is verified by every rule, then kept; it decides nothing. 3. An activation is verified again, its snapshot
built, its record durable, the store changed by compare-and-swap, and only then swapped in: in that order, so that
whatever fails leaves the running policy in force. 4. The clock that windows are judged by never goes back behind the
last act. 5. What is refused is a record as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from gateway import config
from gateway.assembly_keys import make_ring
from gateway.core.bundles import (
    CONFIGURED,
    OWN_SIGNER,
    Bundle,
    BundleBackwards,
    BundleMoved,
    BundleRefused,
    BundleState,
    BundleStore,
    BundleUnknown,
    KeptBundle,
    Terms,
)
from gateway.core.canonical import Json, digest
from gateway.core.ids import Ids
from gateway.core.ports import Clock, RecordLog
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp
from gateway.core.snapshot import Snapshot
from gateway.pdp.apart import SeparateLab
from gateway.pdp.sources import PolicySource, read_folder, source_of
from gateway.trust.bundle import BundleRules, Verifier, read_unverified
from gateway.trust.bundle_signature import BundleSigner
from gateway.trust.bundle_tar import PACKED_BYTES
from gateway.trust.jose import SET_LIMIT_BYTES, KeySet, read_jwks
from gateway.trust.keys import KeyRing

Commit = Callable[[Snapshot | None], Awaitable[None]]
Swap = Callable[[PolicySource | None, Commit], Awaitable[None]]


def rules_of(settings: config.Settings, ring: KeyRing | None) -> BundleRules:
    """`ring` is the gateway's own, where there is one."""
    places = {item.name: item.jwks.file for item in settings.trust.signers if item.jwks is not None and item.jwks.file}
    signers = [
        BundleSigner(name, _own_keys(ring) if name == OWN_SIGNER else _file_keys(places[name]))
        for name in settings.policy.signers
        if name in places or (name == OWN_SIGNER and ring is not None)
    ]
    return BundleRules(signers, settings.policy.scope, settings.policy.roots)


def own_name(settings: config.Settings) -> str:
    """The name under which this gateway's policy is pushed; "" while another engine decides."""
    return settings.policy.name if settings.policy.engine == "embedded" else ""


def _file_keys(path: Path) -> Callable[[], KeySet | None]:
    """Read each time it is asked, so that a key that was taken out of the file counts no more."""

    def keys() -> KeySet | None:
        try:
            with path.open("rb") as file:
                return read_jwks(file.read(SET_LIMIT_BYTES + 1))
        except (OSError, Malformed):
            return None

    return keys


def _own_keys(ring: KeyRing | None) -> Callable[[], KeySet | None]:
    def keys() -> KeySet | None:
        found = [key.jwk() for key in ring.trusted("bundles")] if ring is not None else []
        return read_jwks(orjson.dumps({"keys": found})) if found else None

    return keys


def read_tarball(path: Path) -> bytes:
    """One byte more than is allowed at most: whoever verifies it refuses it by its size. Raises OSError."""
    with path.open("rb") as file:
        return file.read(PACKED_BYTES + 1)


def bundle_source(bundle: Bundle) -> PolicySource:
    """What an engine is built from. Raises PolicyRefused."""
    return source_of({**bundle.modules, **bundle.tests}, bundle.data)


def candidate_source(path: Path) -> PolicySource:
    """A folder, or a tarball whoever signed it: for asking what it would do, never for deciding. Raises BundleRefused,
    PolicyRefused, OSError."""
    return bundle_source(read_unverified(read_tarball(path))) if path.is_file() else read_folder(path)


def configured_source(settings: config.Settings, ring: KeyRing | None, now: Callable[[], float]) -> PolicySource:
    """What the configuration names, as a start without activated bundles would take it. Raises as the above."""
    path = settings.policy.bundle
    if not path.is_file():
        return read_folder(path)
    verifier = Verifier(lambda: rules_of(settings, ring), SeparateLab(), now)
    return bundle_source(verifier.verify(read_tarball(path), Terms(now=now(), tests=False)))


def files_source(settings: config.Settings) -> Callable[[config.Policy], PolicySource]:
    """As `configured_source`, for the policy in force and for candidates, where no gateway runs: from files alone. The
    gateway's own keys are looked at only where one of them may have signed, and never made. Raises KeyRingError too."""

    def source(policy: config.Policy) -> PolicySource:
        own = policy.bundle.is_file() and OWN_SIGNER in policy.signers and (settings.data_dir / "keys").is_dir()
        ring = make_ring(settings, time.time, private=False) if own else None
        return configured_source(replace(settings, policy=policy), ring, time.time)

    return source


class Policies:
    """Where the policy of a snapshot comes from. `adopt` says which settings are meant: those that are being read."""

    def __init__(self, settings: config.Settings, ring: KeyRing, store: BundleStore, clock: Clock) -> None:
        self._settings = settings
        self._ring = ring
        self._store = store
        self._clock = clock
        self._instead: tuple[PolicySource | None] | None = None
        self.verifier = Verifier(lambda: rules_of(self._settings, ring), SeparateLab(), clock.time)

    def adopt(self, settings: config.Settings) -> None:
        self._settings = settings

    def now(self, state: BundleState) -> float:
        """4."""
        return max(self._clock.time(), state.latest)

    def source(self, policy: config.Policy) -> PolicySource:
        """May run in a thread. Raises BundleRefused, PolicyRefused, StoreFailed, OSError."""
        if policy.name:  # an engine beside has none: it is what the configuration names
            if self._instead is not None:
                return self._instead[0] or self._configured(policy)
            active = self._store.state(policy.name).active
            if active != CONFIGURED:
                return bundle_source(self.again(active))  # 1
        return self._configured(policy)

    def again(self, active: str) -> Bundle:
        """1: a bundle that was accepted before."""
        tarball = self._store.tarball(active)
        if tarball is None:
            raise BundleRefused(1, f"the store has lost {active}; restore it from a backup")
        return self.verifier.verify(tarball, Terms(tests=False))

    @contextlib.contextmanager
    def instead(self, source: PolicySource | None) -> Iterator[None]:
        """Meanwhile this is the gateway's policy, None for what the configuration names."""
        self._instead = (source,)
        try:
            yield
        finally:
            self._instead = None

    def _configured(self, policy: config.Policy) -> PolicySource:
        path = policy.bundle
        if not path.is_file():
            return read_folder(path)
        tarball = read_tarball(path)
        if not policy.name:
            return bundle_source(self.verifier.verify(tarball, Terms(now=self._clock.time(), tests=False)))
        name, state = policy.name, self._store.state(policy.name)
        known = self._store.found(name, digest(tarball))
        if known is not None and known.number == state.highest:
            return bundle_source(self.verifier.verify(tarball, Terms(tests=False)))
        bundle = self.verifier.verify(tarball, Terms(state.highest, self.now(state)))
        self._store.accept(kept_of(name, bundle, len(tarball), self.now(state), "configuration"), tarball, "load")
        return bundle_source(bundle)


def kept_of(name: str, bundle: Bundle, size: int, now: float, by: str) -> KeptBundle:
    return KeptBundle(
        name=name,
        digest=bundle.digest,
        revision=bundle.revision,
        number=bundle.number,
        signer=bundle.signer,
        not_before=bundle.not_before,
        expires=bundle.expires,
        size_bytes=size,
        pushed=now,
        by=by,
    )


@dataclass(frozen=True, slots=True)
class _Target:
    name: str
    digest: str
    expected: str
    by: str
    act: str


class Desk:
    """The port BundleDesk. `swap` builds a snapshot over what `policies` gives, calls back, and puts it in force."""

    def __init__(
        self,
        policies: Policies,
        store: BundleStore,
        log: RecordLog,
        ids: Ids,
        clock: Clock,
        own: Callable[[], str],
        swap: Swap,
    ) -> None:
        self._policies = policies
        self._store = store
        self._log = log
        self._ids = ids
        self._clock = clock
        self._own = own
        self._swap = swap
        self._acting = asyncio.Lock()
        self._moving: set[asyncio.Task[BundleState]] = set()
        self._moved = asyncio.Event()

    @property
    def store(self) -> BundleStore:
        return self._store

    @property
    def own(self) -> str:
        return self._own()

    async def push(self, name: str, tarball: bytes, by: str) -> KeptBundle:
        async with self._acting:
            try:
                kept, bundle = await asyncio.to_thread(self._verified, name, tarball, by)
            except BundleRefused as error:
                about: dict[str, Json] = {"name": name, "digest": digest(tarball), "bytes": len(tarball)}
                refused: dict[str, Json] = {"rule": error.rule, "text": error.text[:2000]}
                await self._record("admin", {"bundle": {**about, "refused": refused}}, "bundle.push", by)  # 5
                raise
            await self._record("admin", {"bundle": {"name": name, **bundle.facts()}}, "bundle.push", by)
            await asyncio.to_thread(self._store.accept, kept, tarball)
            return kept

    def _verified(self, name: str, tarball: bytes, by: str) -> tuple[KeptBundle, Bundle]:
        """2."""
        state = self._store.state(name)
        known = self._store.found(name, digest(tarball))
        now = self._policies.now(state)
        bundle = self._policies.verifier.verify(tarball, Terms(state.highest if known is None else -1, now))
        return known or kept_of(name, bundle, len(tarball), now, by), bundle

    async def activate(self, name: str, digest: str, expected: str, by: str) -> BundleState:
        return await self._whole(_Target(name, digest, expected, by, "activate"))

    async def rollback(self, name: str, digest: str | None, expected: str, by: str) -> BundleState:
        if digest is None:
            previous = (await asyncio.to_thread(self._store.state, name)).previous
            if previous is None:
                raise BundleUnknown(f"{name} has nothing to go back to; name the digest of a bundle that is kept")
            digest = previous
        return await self._whole(_Target(name, digest, expected, by, "rollback"))

    async def changed(self, name: str, digest: str, within_s: float) -> BundleState:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    moved = self._moved
                    state = await asyncio.to_thread(self._store.state, name)
                    if state.active != digest:
                        return state
                    await moved.wait()
        return await asyncio.to_thread(self._store.state, name)

    async def _whole(self, target: _Target) -> BundleState:
        """Also when whoever asked is gone meanwhile: the store and the snapshot say the same."""
        task = asyncio.get_running_loop().create_task(self._move(target))
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)
        return await asyncio.shield(task)

    async def _move(self, target: _Target) -> BundleState:
        """3."""
        async with self._acting:
            try:
                bundle, source = await asyncio.to_thread(self._checked, target)

                async def commit(snapshot: Snapshot | None) -> None:
                    await self._record("activation", self._about(target, bundle, snapshot), "", target.by)
                    await asyncio.to_thread(self._store_move, target)

                if target.name == self._own():
                    await self._swap(source, commit)
                else:
                    await commit(None)
            except Exception as error:
                what: dict[str, Json] = {"name": target.name, "digest": target.digest}
                about: dict[str, Json] = {"effect": "refused", "why": str(error)[:2000], "bundle": what}
                await self._record("activation", {"activation": about}, "", target.by)  # 5
                raise
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
            return await asyncio.to_thread(self._store.state, target.name)

    def _checked(self, target: _Target) -> tuple[Bundle | None, PolicySource | None]:
        """The bundle that is to be in force, None for what the configuration names."""
        state = self._store.state(target.name)
        if state.active != target.expected:
            raise BundleMoved(state.active)
        if target.digest == CONFIGURED:
            if target.act != "rollback":
                raise BundleUnknown("name the digest of a bundle")
            return None, None
        found = self._store.found(target.name, target.digest)
        tarball = self._store.tarball(target.digest) if found is not None else None
        if found is None or tarball is None:
            raise BundleUnknown(f"{target.name} has no bundle {target.digest}; push it first")
        active = self._store.found(target.name, state.active)
        if target.act == "activate" and active is not None and found.number < active.number:
            raise BundleBackwards(
                f"its number {found.number} is below {active.number}, which is active: going back is `rollback`"
            )
        bundle = self._policies.verifier.verify(tarball, Terms(now=self._policies.now(state), tests=False))
        return bundle, bundle_source(bundle)

    def _store_move(self, target: _Target) -> None:
        now = self._policies.now(self._store.state(target.name))
        self._store.activate(
            target.name, target.digest, expected=target.expected, act=target.act, by=target.by, time=now
        )

    def _about(self, target: _Target, bundle: Bundle | None, snapshot: Snapshot | None) -> dict[str, Json]:
        what: dict[str, Json] = {"name": target.name}
        what |= bundle.facts() if bundle is not None else {"digest": CONFIGURED}
        about: dict[str, Json] = {"effect": "accepted", "why": f"bundle.{target.act}", "bundle": what}
        if snapshot is not None:
            about |= {"policy": snapshot.engine.revision, "revision": snapshot.revision}
        return {"activation": about}

    async def _record(self, kind: str, about: dict[str, Json], action: str, by: str) -> None:
        """Durable when it returns. Raises LogUnavailable."""
        record: dict[str, Json] = {
            "kind": kind,
            "id": self._ids.new(),
            "time": timestamp(self._clock.time()),
            "subject": {"id": by, "type": "admin"},
            **about,
        }
        if action:
            record["action"] = action
        await self._log.sequenced(self._log.submit(record))
