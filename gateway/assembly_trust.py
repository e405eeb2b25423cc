"""What may be believed, put together: the guarded fetcher and, over it, everything that is fetched.

Called from app.py and assembly.py; like them it may import every room. The rule it keeps: a fetcher is made here alone,
and what needs a document from elsewhere is handed this one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from gateway import config
from gateway.core.canonical import Json
from gateway.core.descriptors import Described, DescriptorCheck, PinOwner
from gateway.core.exchange import Header
from gateway.core.ids import Ids
from gateway.core.ports import Clock, RecordLog, UpstreamTargets
from gateway.core.reasons import LogUnavailable, Refusal, UpstreamFailed
from gateway.core.records import timestamp
from gateway.core.snapshot import Snapshot, Upstream
from gateway.stores.agents import SqliteRegistry
from gateway.stores.remote import MirroredRegistry
from gateway.trust.blocks import KillSwitch
from gateway.trust.callers import PresentedDescriptors
from gateway.trust.card_check import CardCheck
from gateway.trust.fetcher import GuardedFetcher, Listed, documents
from gateway.trust.jose import SET_LIMIT_BYTES
from gateway.trust.jwks import FETCH_SECONDS, Fetch
from gateway.trust.listing import McpLister
from gateway.trust.manifest_source import ManifestSource
from gateway.trust.manifests import MANIFEST_BYTES
from gateway.trust.pins import Pins
from gateway.trust.signers import TrustedSigner
from gateway.trust.tools import Pin
from gateway.trust.watched import PinSettings
from gateway.wire.fetch import Carrier

_logger = logging.getLogger("tollgate.trust")


def make_fetcher(settings: config.Settings) -> GuardedFetcher:
    """Raises as `fetch_rules`."""
    return GuardedFetcher(*fetch_rules(settings))


def fetch_rules(settings: config.Settings) -> tuple[Carrier, Listed]:
    """What `GuardedFetcher.adopt` takes. Raises OSError, SSLError for the CA file."""
    rules = settings.trust.fetch
    return Carrier(str(rules.ca) if rules.ca else None), Listed.read(rules.allow)


def configured_key_sets(fetcher: GuardedFetcher) -> Fetch:
    """Key sets whose URLs stand in the configuration; one that came from elsewhere (jku) must not use this."""
    return documents(fetcher, configured=True, max_bytes=SET_LIMIT_BYTES, deadline_s=FETCH_SECONDS)


def named_key_sets(fetcher: GuardedFetcher) -> Fetch:
    """Key sets whose URLs came with a signature (jku), where the configuration lists their origin for its signer."""
    return documents(fetcher, configured=False, max_bytes=SET_LIMIT_BYTES, deadline_s=FETCH_SECONDS)


class Descriptors:
    """What is known of agents and tools, what is pinned and what is blocked: open as long as the gateway runs. `checks`
    are asked in order by the Verify stage. A worker has an `owner`, and a copy of what is in its registry. Raises
    StoreFailed for a store that cannot be trusted."""

    def __init__(
        self,
        settings: config.Settings,
        fetcher: GuardedFetcher,
        clients: UpstreamTargets,
        log: RecordLog,
        ids: Ids,
        clock: Clock,
        registry: MirroredRegistry | None = None,
        owner: PinOwner | None = None,
    ) -> None:
        self._log, self._ids, self._clock = log, ids, clock
        self.registry = registry or SqliteRegistry(settings.data_dir / "descriptors.sqlite", clock.time)
        self.switch = KillSwitch(self.registry)
        self.registry.subscribe(self.switch.told)
        fetch = documents(fetcher, configured=True, max_bytes=MANIFEST_BYTES, deadline_s=FETCH_SECONDS)
        lister, manifests = McpLister(clients, own_headers), ManifestSource(fetch, clock)
        self.pins = Pins(self.registry, lister, manifests, self.note, clock, owner)
        self.checks: tuple[DescriptorCheck, ...] = (self.switch, PresentedDescriptors(), CardCheck(), self.pins)

    def adopt(self, settings: config.Settings, snapshot: Snapshot, signers: Sequence[TrustedSigner]) -> None:
        """What is in force from now on."""
        self.pins.adopt(
            (snapshot.upstreams[name], _pin_settings(found.tools, signers))
            for name, found in settings.upstreams.items()
            if found.protocol == "mcp"
        )

    def note(self, action: str, about: dict[str, Json]) -> None:
        """What the gateway did by itself, as a record like an administrator's."""
        record: dict[str, Json] = {
            "kind": "admin",
            "id": self._ids.new(),
            "time": timestamp(self._clock.time()),
            "action": action,
            "subject": {"id": "gateway", "type": "gateway"},
            **about,
        }
        try:
            self._log.submit(record)
        except LogUnavailable as error:
            _logger.error("no record of %s: %s", action, error)

    def on_change(self, *jobs: Callable[[], None]) -> None:
        """What is done right after each change: what is blocked does not wait for the next look."""
        for job in jobs:
            self.registry.subscribe(partial(_heedless, job))

    async def aclose(self) -> None:
        await self.pins.aclose()
        self.registry.close()


def _heedless(job: Callable[[], None], changed: Sequence[Described]) -> None:
    """For who need not know what changed."""
    job()


def _pin_settings(found: config.Tools, signers: Sequence[TrustedSigner]) -> PinSettings:
    place = found.manifest
    return PinSettings(
        Pin(found.pin),
        found.refresh,
        str(place.url or place.file) if place is not None else "",
        tuple(signer for signer in signers if signer.name in found.signers),
    )


async def own_headers(upstream: Upstream) -> list[Header]:
    """What the gateway's own question to an upstream is sent with. Raises UpstreamFailed where nothing can be had."""
    if upstream.source is None:
        return list(upstream.credentials)
    found = upstream.source.own()
    found = await found if isinstance(found, Awaitable) else found
    if found is None:
        raise UpstreamFailed("only callers have credentials for it", error="proxy_internal_error", sent=False)
    if isinstance(found, Refusal):
        raise UpstreamFailed(found.text, error="proxy_internal_error", sent=False)
    return [*upstream.credentials, *found]
