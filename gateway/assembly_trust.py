"""What may be believed, put together: the guarded fetcher and, over it, everything that is fetched.

Called from app.py and assembly.py; like them it may import every room. The rule it keeps: a fetcher is made here alone,
and what needs a document from elsewhere is handed this one.
"""

from __future__ import annotations

from gateway import config
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
