"""Words for what the gateway fetches on its own: keys, cards, metadata, tokens, webhooks. Who may be asked is judged in
trust/fetcher.py, the bytes are wire/fetch.py's, and nobody else opens a connection for such a document.

The rule: whoever needs a document from elsewhere takes a `Fetcher`, never a client of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Port
from typing import TypeAlias


class FetchFailed(Exception):
    """The document cannot be had; `args[0]` says why and quotes no more of the URL than its origin."""


class FetchRefused(FetchFailed):
    """It may not even be asked for: no byte was sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer. Header names are lower case; `set-cookie` is not among them."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The one value of a header; None when it is absent or was sent more than once."""
        found = [value for given, value in self.headers if given == name]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Errand:
    """One request to one address that was judged: `host` is what TLS and Host name, `address` where it goes."""

    method: str
    scheme: str
    host: str
    port: int
    address: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes | None = field(repr=False)
    max_bytes: int
    deadline_s: float


Carry: TypeAlias = "Callable[[Errand], Awaitable[Fetched]]"
"""Sends one request on a connection of its own. Raises UpstreamFailed; follows, decompresses and keeps nothing."""


class Fetcher(Port):
    """Fetches under the rules of trust/fetcher.py. Raises FetchRefused, FetchFailed; any status but a redirect returns.

    `configured`: this URL stands in the configuration file, so its origin counts as listed. Never for a URL that came
    with a token, a card, a document or a request.
    """

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline_s: float,
        headers: Sequence[tuple[str, str]] = (),
        configured: bool = False,
    ) -> Fetched: ...

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        content_type: str,
        max_bytes: int,
        deadline_s: float,
        headers: Sequence[tuple[str, str]] = (),
        configured: bool = False,
    ) -> Fetched: ...
