"""Tokens that are kept for each caller in a vault: a secret each, whose path ends where its `subject.id` says.

1. A `subject.id` becomes one segment of a path: ASCII letters, digits and `-` stay, every other byte of its UTF-8 is
`_` and two hexadecimal digits. So no two ids share one, none has a slash, a dot or a percent sign, and nobody reads
beside the place that was meant for it. 2. A caller whose secret is not there has no token, and is told so: there is no
default. 3. A secret that cannot be read, or that no header may carry, is no token either: nothing is forwarded (502).
4. A vault is asked in a thread of its own, one question at a time and each within `ASK_SECONDS`: one that hangs holds
up neither the event loop nor other work. What is kept in memory, how many and how long, is upstream_tokens.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from gateway.core.exchange import Exchange, Header
from gateway.core.reasons import Refusal
from gateway.identity.grants import Granted, GrantFailed
from gateway.identity.kept_tokens import fits_a_header, no_kept_token
from gateway.identity.upstream_tokens import Found, Tokens

ASK_SECONDS: Final = 10.0
SEGMENT_CHARACTERS: Final = 512  # longer ids have no secret of their own
SUBJECT: Final = "{subject}"

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")

ReadSecret: TypeAlias = "Callable[[str], str | None]"
"""The secret at a path, None where there is none. Waits; any thread. Raises OSError, whose text names no secret."""


def segment(subject: str) -> str | None:
    """Rule 1. None where it would be empty or too long."""
    try:
        data = subject.encode()
    except UnicodeEncodeError:
        return None
    found = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in data)
    return found if 0 < len(found) <= SEGMENT_CHARACTERS else None


class VaultGrant:
    """The secret at a path, read again every `seconds`."""

    def __init__(self, read: ReadSecret, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="vaulted-tokens")  # 4

    async def __call__(self, subject: str) -> Granted:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._read, subject)
        try:
            found = await asyncio.wait_for(asked, ASK_SECONDS)
        except TimeoutError:
            raise GrantFailed("the vault did not answer in time") from None
        except OSError as error:
            raise GrantFailed(
                "the vault cannot be asked", detail=str(error)
            ) from None  # where it is concerns no caller
        if found is None:
            raise GrantFailed("nothing is kept", kept=False)  # 2
        if not fits_a_header(found):
            raise GrantFailed("what is kept is not a text that a header may carry")  # 3
        return Granted(found, self._seconds)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class VaultedTokens:
    """`place` is the path with `{subject}` as one of its segments."""

    __slots__ = ("_place", "_tokens")

    def __init__(self, place: str, tokens: Tokens) -> None:
        self._place = place
        self._tokens = tokens

    def headers(self, exchange: Exchange) -> Found:
        found = _kept_at(self._place, exchange)
        return found if isinstance(found, Refusal) else self._tokens.given(found, found, None)

    def own(self) -> tuple[Header, ...] | None:
        """Each is some caller's."""
        return None

    def rejected(self, exchange: Exchange) -> None:
        found = _kept_at(self._place, exchange)
        if not isinstance(found, Refusal):
            self._tokens.dropped(found)

    def close(self) -> None:
        self._tokens.close()


def _kept_at(place: str, exchange: Exchange) -> str | Refusal:
    principal = exchange.principal
    found = segment(principal.id) if principal is not None else None
    return place.replace(SUBJECT, found) if found is not None else no_kept_token(exchange.upstream.name)
