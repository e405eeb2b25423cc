"""Sends usage events to an HTTP sink: each outcome of the log at least once, in the log's order.

1. What is sent is read from the log's files behind a checkpoint, from the place where the last accepted batch ended;
that place is kept durably and belongs to this log (the digest of its last entry is compared).
2. A batch has at most `batch` events and `BATCH_BYTES`; nothing else waits in memory.
3. What is not accepted is sent again, after a growing, jittered pause, or when the sink says. A batch that the sink
calls wrong is halved; a single event that it calls wrong is passed over, with a line for the operator and a count.
4. Where there is no place yet, it begins behind what the log has then: `begin` says where.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.canonical import Json
from gateway.core.fetching import Fetched, Fetcher, FetchFailed
from gateway.core.notices import NotSent, Place, Places
from gateway.core.query import Entries
from gateway.notices.cloudevents import CONTENT_TYPE, EventForm, batch, event
from gateway.notices.following import behind, standing

SCAN = 2048  # entries looked at in one step
BATCH_BYTES = 1024 * 1024
ANSWER_BYTES = 64 * 1024
SEND_SECONDS = 10.0
PAUSE_SECONDS = 1.0  # after a failure; doubled up to the most
PAUSE_MOST = 60.0
WISH_MOST = 300.0  # what a sink may ask for with Retry-After
_WRONG = frozenset({400, 413, 422})
_TAKEN = frozenset({409})  # it has them already

_log = logging.getLogger("tollgate.notices")


@dataclass(frozen=True, slots=True)
class EventSettings:
    """`token` is a secret (never printed: see __repr__ of who holds it)."""

    url: str
    token: str
    form: EventForm
    batch: int = 100
    every: float = 1.0

    def __repr__(self) -> str:
        return "EventSettings(...)"


class UsageEvents:
    """One sink. `begin` is the seq from which it tells when it has told nothing yet; `random` is from 0 to 1."""

    def __init__(
        self,
        settings: EventSettings,
        entries: Entries,
        places: Places,
        fetcher: Fetcher,
        begin: int,
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._entries = entries
        self._places = places
        self._fetcher = fetcher
        self._begin = begin
        self._random = random
        self._place: Place | None = None
        self._pause = PAUSE_SECONDS
        self.sent = 0
        self.refused = 0
        self.failures = 0  # in a row

    @property
    def next(self) -> int:
        """The seq that is looked at next."""
        return self._place.seq + 1 if self._place is not None else 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                more = await self.step()
                self._pause, self.failures = PAUSE_SECONDS, 0
                wait = 0.0 if more else self._settings.every
            except NotSent as error:
                wait = self._later(error)
                _log.warning("usage events wait %.1f s: %s", wait, error)
            except Exception:  # noqa: BLE001 (a background loop: the log keeps what this could not tell)
                wait = self._later(NotSent(""))
                _log.exception("usage events cannot be read")
            await asyncio.sleep(wait)

    async def step(self) -> bool:
        """Tells the next portion of the log; whether there may be more at once. Raises NotSent, StoreFailed."""
        if self._place is None:
            self._place = await asyncio.to_thread(self._found)
        events, place, more = await asyncio.to_thread(self._portion, self._place.seq + 1)
        if place is None:
            return False
        await self._deliver(events)
        await asyncio.to_thread(self._places.keep, place)
        self._place = place
        return more

    def _later(self, error: NotSent) -> float:
        self.failures += 1
        pause, self._pause = self._pause, min(PAUSE_MOST, self._pause * 2)
        wished = min(error.after, WISH_MOST) if error.after is not None else 0.0
        return max(wished, pause * (0.5 + self._random() / 2))

    def _found(self) -> Place:
        """Rules 1 and 4. What was begun is kept, so that a stop before the first batch forgets nothing."""
        place = standing(self._entries, self._places.found(), self._begin)
        self._places.keep(place)
        return place

    def _portion(self, first: int) -> tuple[list[dict[str, Json]], Place | None, bool]:
        """The events from `first` on, the place behind them, and whether the log has more; in a thread."""
        events: list[dict[str, Json]] = []
        size, place = 0, None
        for seq, entry in self._entries.read(first, first + SCAN):
            found = event(entry, self._settings.form)
            if found is not None:
                size += len(entry)
                if events and (len(events) >= self._settings.batch or size > BATCH_BYTES):
                    return events, place, True
                events.append(found)
            place = behind(seq, entry)
        return events, place, place is not None and place.seq + 1 == first + SCAN

    async def _deliver(self, events: Sequence[dict[str, Json]]) -> None:
        """Rule 3."""
        if not events:
            return
        answer = await self._post(events)
        if 200 <= answer.status < 300 or answer.status in _TAKEN:
            self.sent += len(events)
        elif answer.status not in _WRONG:
            raise NotSent(f"the sink answered {answer.status}", _wish(answer))
        elif len(events) > 1:
            half = len(events) // 2
            await self._deliver(events[:half])
            await self._deliver(events[half:])
        else:
            self.refused += 1
            _log.error("the sink answered %d to the usage of record %s: passed over", answer.status, events[0]["id"])

    async def _post(self, events: Sequence[dict[str, Json]]) -> Fetched:
        token = self._settings.token
        try:
            return await self._fetcher.post(
                self._settings.url,
                batch(events),
                content_type=CONTENT_TYPE,
                max_bytes=ANSWER_BYTES,
                deadline_s=SEND_SECONDS,
                headers=(("authorization", f"Bearer {token}"),) if token else (),
                configured=True,
            )
        except FetchFailed as error:
            raise NotSent(str(error)) from None


def _wish(answer: Fetched) -> float | None:
    """Retry-After in seconds; a date is nobody's wish here."""
    text = answer.header("retry-after") or ""
    return float(text) if text.isdigit() and len(text) < 7 else None
