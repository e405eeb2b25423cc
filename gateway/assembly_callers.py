"""Who calls, put together: tokens and keys, proofs of possession, message signatures, callers' descriptors.

Called from assembly.py. What outlives a snapshot is in `Callers`: what counted once counts as used after a reload too,
and a nonce that was given stays good. The rule: a name that stands in a `subject.id` belongs to one entry only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway import config
from gateway.core.descriptors import Registry
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed
from gateway.identity.challenge import Challenges
from gateway.identity.dpop import Dpop, Nonces
from gateway.identity.possession import Possession
from gateway.identity.replays import Memory, Replays
from gateway.identity.signature import DIRECTORY_PATH, Signatures, SignatureSettings
from gateway.trust.callers import CallerDescriptors
from gateway.trust.cards import CARD_LIMIT_BYTES
from gateway.trust.jose import encoded
from gateway.trust.jwks import FileKeys, UrlKeys
from gateway.trust.proofs import read_proof
from gateway.trust.signers import NamedSets, TrustedSigner


class DescriptorFileError(Exception):
    """A file of `trust.descriptors` is no descriptor; `args[0]` says which and why."""


@dataclass(frozen=True, slots=True)
class CallerMaterials:
    """What was read for a snapshot: entries of `trust.signatures` and `trust.descriptors`, and the key sets used."""

    signatures: tuple[SignatureSettings, ...]
    registered: dict[str, bytes]
    sources: tuple[FileKeys | UrlKeys, ...]


class Callers:
    def __init__(
        self,
        named: NamedSets,
        registry: Callable[[], Registry],
        clock: Clock,
        entropy: Callable[[int], bytes] = os.urandom,
        memory: Memory | None = None,
        nonce_key: bytes = b"",
    ) -> None:
        """`named` are key sets that cards lead to; `registry` is asked for once there are requests. A worker has its
        owner's `memory` of what counts once, and `nonce_key`, so that each takes what another gave."""
        self._named = named
        self._registry = registry
        self._clock = clock
        self.replays = Replays(clock)
        self._memory: Memory = memory or self.replays
        self.nonce_key = nonce_key or entropy(32)
        self._nonces = Nonces(self.nonce_key, clock)

    def read(self, settings: config.Settings, source: Callable[[config.Jwks], FileKeys | UrlKeys]) -> CallerMaterials:
        """`source` is where a set's keys come from. Raises OSError, DescriptorFileError."""
        used: list[FileKeys | UrlKeys] = []

        def noted(found: config.Jwks) -> FileKeys | UrlKeys:
            used.append(source(found))
            return used[-1]

        signatures = tuple(_signature(found, noted) for found in settings.trust.signatures)
        registered = {found.name: _descriptor(found) for found in settings.trust.descriptors}
        return CallerMaterials(signatures, registered, tuple(used))

    def possession(
        self, settings: config.Settings, read: CallerMaterials, challenges: Challenges, public_url: str
    ) -> Possession:
        found = settings.trust.dpop
        nonces = self._nonces if found.nonce == "required" else None
        dpop = Dpop(read_proof, challenges, self._memory, self._clock, max_age=found.max_age, nonces=nonces)
        scheme = urlsplit(public_url).scheme
        signatures = Signatures(read.signatures, challenges, self._memory, self._clock, scheme)
        return Possession(dpop, signatures if read.signatures else None, challenges)

    def descriptors(
        self, settings: config.Settings, read: CallerMaterials, signers: tuple[TrustedSigner, ...]
    ) -> CallerDescriptors:
        """Raises DescriptorFileError."""
        issuers = {found.name: found.issuer for found in settings.trust.issuers}
        issuers |= {found.name: "" for found in settings.trust.signatures}
        try:
            return CallerDescriptors(signers, self._named, read.registered, issuers, self._clock, self._registry)
        except Malformed as error:
            raise DescriptorFileError(f"trust.descriptors: {error}") from None


def _signature(found: config.Signature, source: Callable[[config.Jwks], FileKeys | UrlKeys]) -> SignatureSettings:
    return SignatureSettings(
        name=found.name,
        keys=source(found.jwks) if found.jwks is not None else None,
        directories={place: source(config.Jwks(url=place + DIRECTORY_PATH)) for place in found.directories},
        subject=found.subject or "",
        org=found.org,
        roles=found.roles,
        tag=found.tag,
        whole=found.covers == "request",
        nonce=found.nonce == "required",
        max_age=found.max_age,
    )


def _descriptor(found: config.CallerDescriptor) -> bytes:
    """As a caller would present it: a card in a file is plain JSON."""
    with found.file.open("rb") as file:
        data = file.read(CARD_LIMIT_BYTES + 1).strip()
    if not data or len(data) > CARD_LIMIT_BYTES:
        raise DescriptorFileError(f"trust.descriptors.{found.name}: the file is empty or too large")
    return encoded(data) if data.startswith(b"{") else data
