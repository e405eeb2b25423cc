"""Tokens by which the gateway is admitted at an upstream: its own, or one exchanged for the caller's.

Rules, numbered as in the code:
1. A token is fetched once for all who wait for the same one; a caller that goes away does not take the fetch with it.
2. One that is at hand costs a look into a dict. It is used until a margin before its end and, where it was exchanged,
   never longer than the caller's own token lives; in its last quarter the next one is fetched beside the calls.
3. It is kept for the very token it was exchanged for: another token of the same caller may be good for less.
4. No token, no call: a failure is told to whoever waits and to all who ask within `HOLD_SECONDS`, then tried again.
   One that is certainly kept no more is given to nobody from then on.
5. A 401 of the upstream's drops the token, but not one that is fresh: nobody can make us ask at every call.
6. The caller's token is read from its request when it is exchanged, goes to the token endpoint alone, and is kept
   nowhere. Tokens are in memory only; none gets into a text, a log line or a record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol as Port
from typing import TypeAlias

from gateway.core.exchange import Exchange, Header
from gateway.core.fetching import Fetched, Fetcher, FetchFailed
from gateway.core.ports import Clock
from gateway.core.reasons import Reason, Refusal, UpstreamFailed, upstream_refusal
from gateway.identity.caller import presented
from gateway.identity.grants import (
    ANSWER_LIMIT_BYTES,
    FORM,
    Client,
    Granted,
    GrantFailed,
    Request,
    client_credentials,
    read_grant,
    token_exchange,
)
from gateway.identity.kept_tokens import no_kept_token

FETCH_SECONDS = 10.0
HOLD_SECONDS = 1.0
FRESH_SECONDS = 10.0
MARGIN_SECONDS = 30.0  # before its end a token may already be refused by a clock that goes ahead
KEPT_TOKENS = 10_000  # per upstream, about 20 MB; the one that was fetched first goes first

_PSEUDONYM = "tollgate"
_log = logging.getLogger("tollgate.identity")

Found: TypeAlias = "tuple[Header, ...] | Refusal | Awaitable[tuple[Header, ...] | Refusal]"


class Mint(Port):
    """One way to get a token. `subject` is the caller's own, or where the caller's is kept."""

    async def __call__(self, subject: str) -> Granted:
        """Raises GrantFailed, FetchFailed."""
        ...

    def close(self) -> None: ...


class ClientGrant:
    """The gateway's own token."""

    def __init__(self, client: Client, fetcher: Fetcher) -> None:
        self._client, self._fetcher = client, fetcher

    async def __call__(self, subject: str) -> Granted:
        return read_grant(await _post(self._fetcher, client_credentials(self._client)))

    def close(self) -> None:
        """Nothing is open between two requests."""


class ExchangeGrant:
    """A token for the caller. `actor` is a token, or where one is to be had."""

    def __init__(self, client: Client, fetcher: Fetcher, actor: str | Tokens | None) -> None:
        self._client, self._fetcher, self._actor = client, fetcher, actor

    async def __call__(self, subject: str) -> Granted:
        actor = await self._actor.token() if isinstance(self._actor, Tokens) else self._actor
        answer = await _post(self._fetcher, token_exchange(self._client, subject, actor))
        sent = (subject,) if actor is None else (subject, actor)
        return read_grant(answer, sent, exchanged=True)

    def close(self) -> None:
        if isinstance(self._actor, Tokens):
            self._actor.close()


@dataclass(slots=True)
class _Held:
    """Moments of the monotonic clock. `refused` is set instead of a token where there is none."""

    token: str = field(repr=False, default="")
    headers: tuple[Header, ...] = field(repr=False, default=())
    since: float = 0.0
    refresh: float = 0.0
    until: float = 0.0
    refused: str = ""
    kept: bool = True


class Tokens:
    """The tokens for one upstream. `header` is where they go, behind `scheme`."""

    __slots__ = ("_clock", "_closed", "_header", "_held", "_mint", "_scheme", "_tasks", "_upstream")

    def __init__(self, upstream: str, header: str, mint: Mint, clock: Clock, scheme: str = "Bearer") -> None:
        self._upstream = upstream
        self._header = header.lower().encode()
        self._scheme = f"{scheme} ".encode() if scheme else b""
        self._mint = mint
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    async def token(self) -> str:
        """The gateway's own, for an exchange. Raises GrantFailed."""
        held = self._fresh("", "", None)
        held = held if isinstance(held, _Held) else await held
        if held.refused:
            raise GrantFailed(held.refused)
        return held.token

    def given(self, key: str, subject: str, expires: float | None) -> Found:
        """`expires` is when the caller's own token ends, epoch seconds."""
        held = self._fresh(key, subject, expires)
        return self._shown(held) if isinstance(held, _Held) else self._waited(held)

    def dropped(self, key: str) -> None:
        """Rule 5."""
        held = self._held.get(key)
        if held is not None and not held.refused and self._clock.monotonic() - held.since >= FRESH_SECONDS:
            del self._held[key]

    def close(self) -> None:
        """Ends what is under way; from now on nothing is fetched that nobody waits for."""
        self._closed = True
        self._mint.close()
        for task in self._tasks.values():
            task.cancel()

    def _fresh(self, key: str, subject: str, expires: float | None) -> _Held | Awaitable[_Held]:
        held, now = self._held.get(key), self._clock.monotonic()
        if held is not None and now < held.until:
            if now >= held.refresh and key not in self._tasks and not self._closed:  # 2
                self._begin(key, subject, expires)
            return held
        if key not in self._tasks:
            self._begin(key, subject, expires)
        return self._joined(key)

    def _begin(self, key: str, subject: str, expires: float | None) -> None:
        task = asyncio.get_running_loop().create_task(
            self._get(key, subject, expires), name=f"token for {self._upstream}"
        )
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _joined(self, key: str) -> _Held:
        task = self._tasks.get(key)
        if task is not None:
            await asyncio.wait((task,))  # 1
        held = self._held.get(key)
        return held if held is not None else _Held(refused="the request for it was given up")

    async def _get(self, key: str, subject: str, expires: float | None) -> None:
        try:
            found = self._kept(await self._mint(subject), expires)
        except Exception as error:  # noqa: BLE001 (a background task: whatever went wrong, there is no token)
            found = self._failed(error)
            held = self._held.get(key)
            if held is not None and not held.refused and found.kept and found.since < held.until:
                held.refresh = found.until  # the former token serves to its end, and it is tried again
                return
        self._held.pop(key, None)
        if len(self._held) >= KEPT_TOKENS:
            del self._held[next(iter(self._held))]
        self._held[key] = found

    def _kept(self, granted: Granted, expires: float | None) -> _Held:
        now = self._clock.monotonic()
        lives = granted.seconds - min(MARGIN_SECONDS, granted.seconds / 5)
        if expires is not None:
            lives = min(lives, expires - self._clock.time())  # 2
        headers = ((self._header, self._scheme + granted.token.encode()),)
        return _Held(granted.token, headers, now, now + lives * 0.75, now + lives)

    def _failed(self, error: Exception) -> _Held:
        if isinstance(error, GrantFailed):
            why, detail = str(error), error.detail
        elif isinstance(error, FetchFailed):
            why, detail = "the authorization server cannot be asked", str(error)  # where it is concerns no caller
        else:
            why, detail = "the token could not be fetched", type(error).__name__  # its text may quote what it had
        _log.warning("no token for upstream %s: %s", self._upstream, detail)
        now = self._clock.monotonic()
        kept = not isinstance(error, GrantFailed) or error.kept
        return _Held(since=now, refresh=now + HOLD_SECONDS, until=now + HOLD_SECONDS, refused=why, kept=kept)  # 4

    async def _waited(self, pending: Awaitable[_Held]) -> tuple[Header, ...] | Refusal:
        return self._shown(await pending)

    def _shown(self, held: _Held) -> tuple[Header, ...] | Refusal:
        if not held.refused:
            return held.headers
        if not held.kept:
            return no_kept_token(self._upstream)
        failure = UpstreamFailed(
            f"the gateway has no token for it: {held.refused}", error="proxy_internal_error", sent=False
        )
        return upstream_refusal(self._upstream, failure, _PSEUDONYM)


class OwnToken:
    """`client_credentials`: the same token whoever calls."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def headers(self, exchange: Exchange) -> Found:
        return self._tokens.given("", "", None)

    def own(self) -> Found:
        return self._tokens.given("", "", None)

    def rejected(self, exchange: Exchange) -> None:
        self._tokens.dropped("")

    def close(self) -> None:
        self._tokens.close()


class ExchangedToken:
    """`token_exchange`: the subject is the caller's own token, which the Identify stage has verified."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def headers(self, exchange: Exchange) -> Found:
        principal, subject = exchange.principal, presented(exchange.head)
        if principal is None or not principal.key or subject is None:
            text = f"Upstream {exchange.upstream.name} is reached with a token in exchange for the caller's: use one"
            return Refusal(Reason.DENIED, text, rule="no_subject_token")
        return self._tokens.given(principal.credential, subject.decode("ascii"), principal.expires)  # 3, 6

    def own(self) -> None:
        """There is no token to exchange where nobody calls."""

    def rejected(self, exchange: Exchange) -> None:
        if exchange.principal is not None:
            self._tokens.dropped(exchange.principal.credential)

    def close(self) -> None:
        self._tokens.close()


async def _post(fetcher: Fetcher, form: Request) -> Fetched:
    return await fetcher.post(
        form.url,
        form.body,
        content_type=FORM,
        max_bytes=ANSWER_LIMIT_BYTES,
        deadline_s=FETCH_SECONDS,
        headers=form.headers,
        configured=True,
    )
