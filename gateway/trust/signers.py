"""Who may sign agent cards and manifests, and where their keys are now.

1. A signer is a name in `trust.signers`; its keys are those of its own set, and of sets at an address that a signature
named (`jku`) when the configuration lists that address's origin for this signer. 2. No other address is ever asked.
3. At most `SETS_PER_SIGNER` such sets are kept for a signer, the newest: a card that names many costs no memory.
4. A key that is unknown makes its signer's set be asked for again, as often as jwks.py allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.canonical import Json
from gateway.core.ports import Clock
from gateway.trust.cards import Voucher, addresses, signatures
from gateway.trust.jose import KeySet
from gateway.trust.jwks import Fetch, FileKeys, KeySources, UrlKeys

SETS_PER_SIGNER = 8


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """One entry of `trust.signers`. `source` is None where only `jku` leads to its keys."""

    name: str
    source: FileKeys | UrlKeys | None
    origins: frozenset[str] = frozenset()


class NamedSets:
    """Key sets at addresses that signatures named. Outlives reloads. `fetch` must be the guarded one."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._sources = KeySources(fetch, clock)
        self._used: dict[str, dict[str, UrlKeys]] = {}

    def of(self, signer: str) -> Mapping[str, KeySet | None]:
        return {url: source.usable() for url, source in self._used.get(signer, {}).items()}

    def want(self, signer: str, url: str) -> Awaitable[None] | None:
        """Something to wait for that may bring the set. An address that may not be asked is not (rule 2)."""
        used = self._used.setdefault(signer, {})
        source = used.get(url)
        if source is None:
            try:
                source = used[url] = self._sources.url(url)
            except ValueError:
                return None
            if len(used) > SETS_PER_SIGNER:
                del used[next(iter(used))]  # 3
                self._sources.keep([item for held in self._used.values() for item in held.values()])
        return source.refresh() if source.usable() is None else None

    def poll(self) -> None:
        self._sources.poll()

    def close(self) -> None:
        self._sources.keep(())


class Signers:
    """Some of the trusted signers: those one upstream's cards may be signed by."""

    def __init__(self, signers: Sequence[TrustedSigner], named: NamedSets) -> None:
        self._signers = tuple(signers)
        self._named = named

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signers) and self._signers == other._signers

    __hash__ = None  # type: ignore[assignment]

    def vouchers(self) -> tuple[Voucher, ...]:
        """As they are now."""
        return tuple(
            Voucher(
                signer.name,
                signer.source.usable() if signer.source is not None else None,
                signer.origins,
                self._named.of(signer.name) if signer.origins else None,
            )
            for signer in self._signers
        )

    async def ready(self, card: Mapping[str, Json]) -> None:
        """Waits for keys that the card's signatures need and that may be had. Raises Malformed for what is no card."""
        vouchers = self.vouchers()
        found, _ = signatures(card)
        pending = [self._named.want(signer, url) for signer, url in addresses(card, vouchers)]
        for signer, voucher in zip(self._signers, vouchers, strict=True):
            known = voucher.keys is not None and all(voucher.keys.named(item.kid) is not None for item in found)
            if signer.source is not None and not known:
                pending.append(signer.source.refresh())  # 4
        for waiting in pending:
            if waiting is not None:
                await waiting
