"""What may be believed, put together: the guarded fetcher and, over it, everything that is fetched.

Called from app.py and assembly.py; like them it may import every room. The rule it keeps: a fetcher is made here alone,
and what needs a document from elsewhere is handed this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gateway import config
from gateway.core.descriptors import Described, DescriptorCheck
from gateway.core.ports import Clock
from gateway.stores.agents import SqliteRegistry
from gateway.trust.blocks import KillSwitch
from gateway.trust.fetcher import GuardedFetcher, Listed, documents
from gateway.trust.jose import SET_LIMIT_BYTES
from gateway.trust.jwks import FETCH_SECONDS, Fetch
from gateway.wire.fetch import Carrier


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


class Descriptors:
    """What is known of agents and tools, and what is blocked: open as long as the gateway runs. `checks` are asked in
    order by the Verify stage. Raises StoreFailed for a store that cannot be trusted."""

    def __init__(self, settings: config.Settings, clock: Clock) -> None:
        self.registry = SqliteRegistry(settings.data_dir / "descriptors.sqlite", clock.time)
        self.switch = KillSwitch(self.registry)
        self.registry.subscribe(self.switch.told)
        self.checks: tuple[DescriptorCheck, ...] = (self.switch,)

    def on_change(self, *jobs: Callable[[], None]) -> None:
        """What is done right after each change: what is blocked does not wait for the next look."""
        for job in jobs:
            self.registry.subscribe(partial(_heedless, job))

    def close(self) -> None:
        self.registry.close()


def _heedless(job: Callable[[], None], changed: Sequence[Described]) -> None:
    """For who need not know what changed."""
    job()
