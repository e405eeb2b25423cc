"""A channel to a web server: one signed message for each alert, through the guarded fetcher.

The rule: any 2xx means taken, anything else is tried again later; a receiver's answer is never read further. Nothing of
a request's content is in an alert, so nothing of it leaves here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import orjson

from gateway.core.canonical import Json
from gateway.core.fetching import Fetcher, FetchFailed
from gateway.core.notices import Letter, NotSent
from gateway.notices.signing import Sign, signed

SEND_SECONDS = 10.0
ANSWER_BYTES = 64 * 1024
_WISH_DIGITS = 6


class Webhook:
    """A Channel. `sign` may wait, so it is asked in a thread."""

    at_once = 1

    def __init__(self, name: str, url: str, sign: Sign, node: str, fetcher: Fetcher, now: Callable[[], float]) -> None:
        self.name = name
        self._url = url
        self._sign = sign
        self._node = node
        self._fetcher = fetcher
        self._now = now

    async def send(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            body = orjson.dumps(message(letter, self._node))
            try:
                headers = await asyncio.to_thread(signed, self._sign, letter.id, self._now(), body)
                answer = await self._fetcher.post(
                    self._url,
                    body,
                    content_type="application/json",
                    max_bytes=ANSWER_BYTES,
                    deadline_s=SEND_SECONDS,
                    headers=headers,
                    configured=True,
                )
            except (FetchFailed, OSError) as error:
                raise NotSent(str(error)) from None
            if not 200 <= answer.status < 300:
                wish = answer.header("retry-after") or ""
                after = float(wish) if wish.isdigit() and len(wish) <= _WISH_DIGITS else None
                raise NotSent(f"it answered {answer.status}", after)


def message(letter: Letter, node: str) -> dict[str, Json]:
    """`type`, `timestamp` and `data`, as Standard Webhooks proposes."""
    alert = letter.alert
    facts = {name: value for name, value in alert.facts.items() if value is not None}
    return {
        "type": f"tollgate.{alert.kind}",
        "timestamp": alert.time,
        "data": {"node": node, "title": alert.title, "text": alert.text, **facts},
    }
