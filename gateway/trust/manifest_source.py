"""Where a signed manifest comes from: a file or a URL of the configuration, read anew each time it is asked for.

The rule: what cannot be had and what does not count are told apart (UpstreamFailed, Malformed), since a manifest that
was good may be believed for a while longer only in the first case.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.core.fetching import FetchFailed
from gateway.core.ports import Clock
from gateway.core.reasons import UpstreamFailed
from gateway.trust.jwks import Fetch
from gateway.trust.manifests import MANIFEST_BYTES, Keys, read_manifest, verify_manifest
from gateway.trust.tools import Named
from gateway.trust.watched import PinSettings


class ManifestSource:
    """`fetch` is the guarded one, for URLs of the configuration."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock

    async def __call__(self, settings: PinSettings) -> tuple[Named, ...]:
        """What is signed now. Raises UpstreamFailed where it cannot be had, Malformed where it does not count."""
        try:
            if settings.manifest.startswith(("http://", "https://")):
                data = await self._fetch(settings.manifest)
            else:
                data = await asyncio.to_thread(_read, Path(settings.manifest))
        except (OSError, FetchFailed) as error:
            raise UpstreamFailed(str(error), error="destination_unavailable", sent=False) from None
        manifest, signatures = read_manifest(data)
        sources = [(signer.name, signer.source) for signer in settings.trusted if signer.source is not None]
        for _, source in sources:
            keys = source.usable()
            if keys is None or any(keys.named(signature.kid) is None for signature in signatures):
                waiting = source.refresh()
                if waiting is not None:
                    await waiting
        found = [Keys(name, source.usable()) for name, source in sources]
        return (verify_manifest(manifest, signatures, found, self._clock.time()),)


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MANIFEST_BYTES + 1)
