"""The cards of all a2a upstreams, put together: who may sign them, how they are fetched, with which key we sign.

Called from app.py and assembly.py; like them it may import every room. What was fetched and verified of a card outlives
a reload that changes nothing about it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from gateway import config
from gateway.assembly_trust import named_key_sets, own_headers
from gateway.core.descriptors import AgentCards, Registry
from gateway.core.ports import Clock, UpstreamTargets
from gateway.core.snapshot import Upstream
from gateway.trust.card_cache import CardCache, CardSettings
from gateway.trust.card_fetch import CardFetcher
from gateway.trust.fetcher import GuardedFetcher
from gateway.trust.jose import Signer
from gateway.trust.jwks import FileKeys, UrlKeys
from gateway.trust.keys import KeyRing
from gateway.trust.signers import NamedSets, Signers, TrustedSigner

POLL_SECONDS = 0.5  # a card whose key is withdrawn counts for nothing within a second

_log = logging.getLogger("tollgate.trust")


def trusted_signers(
    settings: config.Settings, source: Callable[[config.Jwks], FileKeys | UrlKeys]
) -> tuple[TrustedSigner, ...]:
    """`trust.signers`, each with where its keys come from."""
    return tuple(
        TrustedSigner(found.name, source(found.jwks) if found.jwks is not None else None, frozenset(found.jku))
        for found in settings.trust.signers
    )


def make_cards(
    ring: KeyRing,
    fetcher: GuardedFetcher,
    targets: Callable[[], UpstreamTargets],
    registry: Callable[[], Registry],
    clock: Clock,
) -> Cards:
    named = NamedSets(named_key_sets(fetcher), clock)
    return Cards(ring, named, CardFetcher(targets, own_headers), registry, clock)


class Cards:
    """Open as long as the gateway runs. `build` may be followed by `keep`; nothing is in force before. `named` are the
    key sets that signatures led to."""

    def __init__(
        self, ring: KeyRing, named: NamedSets, fetch: CardFetcher, registry: Callable[[], Registry], clock: Clock
    ) -> None:
        self._ring = ring
        self.named = named
        self._fetch = fetch
        self.registry = registry
        self._clock = clock
        self._signing: tuple[str, Signer] | None = None
        self._next: tuple[str, Signer] | None = None
        self._kept: dict[str, tuple[Upstream, CardCache]] = {}
        self._made: dict[str, tuple[Upstream, CardCache]] = {}

    def build(
        self, settings: config.Settings, upstreams: Mapping[str, Upstream], signers: tuple[TrustedSigner, ...]
    ) -> dict[str, AgentCards]:
        """By upstream. The running ones where nothing about them changed."""
        self._made = {}
        for name, found in settings.upstreams.items():
            if found.protocol != "a2a":
                continue
            wanted = _settings(name, found.card)
            names = found.card.signers if found.card is not None else ()
            trusted = Signers([signer for signer in signers if signer.name in names], self.named)
            kept = self._kept.get(name)
            if kept is None or (kept[0], kept[1].settings, kept[1].signers) != (upstreams[name], wanted, trusted):
                get = partial(self._fetch, upstreams[name])
                cache = CardCache(wanted, get, trusted, self.signer, self.registry, self._clock)
                kept = (upstreams[name], cache)
            self._made[name] = kept
        if self._made:
            self._next = self._current()  # the first start makes the key, before it is published
        return {name: cache for name, (_, cache) in self._made.items()}

    def keep(self) -> None:
        """What was built last is in force."""
        for name, (_, cache) in self._kept.items():
            if self._made.get(name, (None, None))[1] is not cache:
                cache.close()
        self._kept = self._made
        self._signing = self._next

    def signer(self) -> Signer:
        """The key for cards that is in force: the snapshot that shows its public half is. Whoever reads the gateway's
        key set after a card finds in it what signed the card, also while the key changes."""
        if self._signing is None:
            raise RuntimeError("no card is signed before the first snapshot is in force")
        return self._signing[1]

    def _current(self) -> tuple[str, Signer]:
        current = self._ring.current("cards") or self._ring.ensure("cards")
        if self._signing is not None and self._signing[0] == current.kid:
            return self._signing
        return current.kid, current.signer()

    async def watch(self) -> None:
        """Runs until cancelled; the first round begins at once."""
        try:
            while True:
                for _, cache in tuple(self._kept.values()):
                    try:
                        cache.poll()
                    except Exception:  # noqa: BLE001 (a background loop: one card must not end it)
                        _log.exception("a card could not be looked after")
                self.named.poll()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            for _, cache in self._kept.values():
                cache.close()
            self.named.close()


def _settings(name: str, found: config.Card | None) -> CardSettings:
    if found is None:
        return CardSettings(name)
    return CardSettings(
        upstream=name,
        fetched=True,
        required=found.required,
        preserve=found.mode == "preserve",
        refresh=found.refresh,
        stale=found.stale,
    )
