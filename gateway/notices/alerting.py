"""Alerts on their way: reads the log, notes what is worth telling, hands it to each channel until it was taken.

1. What a portion of the log came to is noted in one transaction with the place behind it; so an alert is told once,
also over restarts, and a portion is read again only if nothing of it was noted.
2. Each channel has its letters and its own task: one that hangs holds up no other. A message that was not taken is sent
again after a growing, jittered pause, under the same id, for `GIVE_UP_SECONDS`; then it is given up, and said so.
3. What happened longer ago than `STALE_SECONDS` is no news: it is counted for the digest and told to nobody.
4. A digest that was due while the gateway was down comes once, late.
"""

from __future__ import annotations

import asyncio
import logging
from calendar import timegm
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import strptime
from typing import ParamSpec, TypeVar

from gateway.core.notices import Adjusted, Alert, AlertBook, Channel, Letter, NotSent, Place
from gateway.core.ports import Clock
from gateway.core.query import Entries
from gateway.notices.alerts import Judge, Rules
from gateway.notices.digest import Daily, digest
from gateway.notices.following import behind, standing

SCAN = 2048  # entries looked at in one step
EVERY_SECONDS = 1.0
AGAIN_SECONDS = 5.0  # after the first failure; four times as long after each, up to the most
AGAIN_MOST = 3600.0
GIVE_UP_SECONDS = 86400.0
STALE_SECONDS = 86400.0

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")
_log = logging.getLogger("tollgate.notices")


@dataclass(frozen=True, slots=True)
class AlertSettings:
    rules: Rules
    daily: Daily | None = None


class Alerting:
    """`begin` is the seq from which it looks when it has looked at nothing yet; `random` is from 0 to 1."""

    def __init__(
        self,
        settings: AlertSettings,
        channels: Sequence[Channel],
        entries: Entries,
        book: AlertBook,
        begin: int,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._channels = tuple(channels)
        self._entries = entries
        self._book = book
        self._begin = begin
        self._clock = clock
        self._random = random
        self._place: Place | None = None
        self._executor = ThreadPoolExecutor(1, "tollgate-alerts")  # the book is asked by one thread at a time
        self.sent: dict[str, int] = {channel.name: 0 for channel in channels}
        self.failed: dict[str, int] = {channel.name: 0 for channel in channels}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again("the log", self.look))
            for channel in self._channels:
                tasks.create_task(self._again(channel.name, partial(self.send, channel)))

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    async def look(self) -> bool:
        """Notes the next portion of the log and a digest that is due; whether there is more to be read at once. Raises
        StoreFailed."""
        await self._digest()
        if self._place is None:
            self._place = await self._in_thread(self._standing)
        found = await self._in_thread(self._portion, self._place.seq + 1)
        if found is None:
            return False
        judge, place = found
        now = self._clock.time()
        news = [it for it in judge.news if isinstance(it, Adjusted) or _epoch(it.time) > now - STALE_SECONDS]
        names = [channel.name for channel in self._channels]
        await self._in_thread(self._book.note, news, judge.tallies, place, names, now)
        more = place.seq == self._place.seq + SCAN
        self._place = place
        return more

    async def send(self, channel: Channel) -> bool:
        """Sends what a channel is due, as one message; whether there may be more at once. Raises StoreFailed."""
        letters = await self._in_thread(self._book.due, channel.name, self._clock.time(), channel.at_once)
        if not letters:
            return False
        try:
            await channel.send(letters)
        except NotSent as error:
            await self._not_sent(channel, letters, error)
            return False
        await self._in_thread(self._book.sent, letters)
        self.sent[channel.name] += len(letters)
        return len(letters) == channel.at_once

    async def _not_sent(self, channel: Channel, letters: Sequence[Letter], error: NotSent) -> None:
        now = self._clock.time()
        self.failed[channel.name] += 1
        old = [letter for letter in letters if letter.since <= now - GIVE_UP_SECONDS]
        young = [letter for letter in letters if letter not in old]
        if old:
            _log.error("%d alerts for %s are given up: %s", len(old), channel.name, error)
            await self._in_thread(self._book.failed, old, None)
        if young:
            tries = max(letter.tries for letter in young)
            pause = min(AGAIN_MOST, AGAIN_SECONDS * 4 ** min(tries, 8)) * (0.5 + self._random() / 2)
            pause = max(pause, min(error.after or 0.0, AGAIN_MOST))
            _log.warning("%d alerts for %s wait %.0f s: %s", len(young), channel.name, pause, error)
            await self._in_thread(self._book.failed, young, now + pause)

    async def _digest(self) -> None:
        """Rule 4."""
        daily, now = self._settings.daily, self._clock.time()
        if daily is None:
            return
        due = await self._in_thread(self._book.digest_due)
        soon = daily.after(now)
        if due is not None and soon >= due > now:
            return
        said: Alert | None = None
        if due is not None and due <= now:
            said = digest(await self._in_thread(self._book.tallies), now)
        names = [channel.name for channel in self._channels]
        await self._in_thread(self._book.digest, said, names, soon, now)

    async def _again(self, what: str, step: Callable[[], Awaitable[bool]]) -> None:
        """A background loop over one step."""
        while True:
            try:
                more = await step()
            except Exception as error:  # noqa: BLE001 (a background loop: the log and the book keep what failed)
                _log.error("alerts (%s): %s: %s", what, type(error).__name__, error)
                more = False
            await asyncio.sleep(0 if more else EVERY_SECONDS)

    def _standing(self) -> Place:
        place = standing(self._entries, self._book.found(), self._begin)
        self._book.note((), {}, place, (), self._clock.time())
        return place

    def _portion(self, first: int) -> tuple[Judge, Place] | None:
        judge, place = Judge(self._settings.rules), None
        for seq, entry in self._entries.read(first, first + SCAN):
            judge.read(entry)
            place = behind(seq, entry)
        return None if place is None else (judge, place)

    async def _in_thread(self, job: Callable[_Given, _Found], *given: _Given.args, **named: _Given.kwargs) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: job(*given, **named))


def _epoch(text: str) -> float:
    try:
        return timegm(strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0
