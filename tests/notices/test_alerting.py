"""Alerts on their way: once each, over restarts and failures, and no channel holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import time
from pathlib import Path

import pytest

from gateway.core.notices import Letter, NotSent
from gateway.notices.alerting import AGAIN_SECONDS, GIVE_UP_SECONDS, Alerting, AlertSettings
from gateway.notices.alerts import Rules
from gateway.notices.digest import Daily
from gateway.stores.notices import SqliteAlertBook
from tests.notices.entries import Log, Moving, intent, outcome
from tests.notices.test_alerts import failing, marked, opened, stopped
from tests.rig import run

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


class Heard:
    """A Channel that keeps what it was sent, and fails as often as it is told."""

    def __init__(self, name: str, failures: int = 0, at_once: int = 1) -> None:
        self.name = name
        self.at_once = at_once
        self.failures = failures
        self.letters: list[list[Letter]] = []
        self.ids: list[str] = []

    async def send(self, letters: Sequence[Letter]) -> None:
        self.ids += [letter.id for letter in letters]
        if self.failures:
            self.failures -= 1
            raise NotSent("it is away")
        self.letters.append([*letters])

    @property
    def titles(self) -> list[str]:
        return [letter.alert.title for letters in self.letters for letter in letters]


class Story:
    """A log, a clock, a book that survives, and the alerting over them, made anew at will."""

    def __init__(self, folder: Path, *channels: Heard, daily: Daily | None = None, begin: int = 0) -> None:
        self.folder, self.channels, self.daily, self.begin = folder, channels, daily, begin
        self.log, self.clock = Log(), Moving(NOW)
        self.made = 0
        self.start()

    def start(self) -> None:
        self.book = SqliteAlertBook(self.folder / "alerts.sqlite", self._new)
        told = AlertSettings(Rules(), self.daily)
        self.alerting = Alerting(told, self.channels, self.log, self.book, self.begin, self.clock, lambda: 1.0)

    def restart(self) -> None:
        self.close()
        self.start()

    def close(self) -> None:
        self.alerting.close()
        self.book.close()

    def _new(self) -> str:
        self.made += 1
        return f"letter-{self.made}"

    async def turn(self) -> None:
        while await self.alerting.look():
            pass
        for channel in self.channels:
            while await self.alerting.send(channel):
                pass


def test_each_alert_is_told_once_to_each_channel_also_over_restarts(tmp_path: Path) -> None:
    async def story() -> None:
        one, two = Heard("one"), Heard("two", at_once=50)
        it = Story(tmp_path, one, two)
        it.log.add(intent(0), marked(500), marked(500), stopped(), stopped(), opened(), failing())
        await it.turn()
        await it.turn()
        it.restart()
        it.log.add(marked(500), stopped(), marked(800))
        await it.turn()
        titles = [
            "Budget org-month passed 50%", "Budget org-month is used up", "Breaker of weather is open",
            "Route openai fails open", "Budget org-month passed 80%",
        ]  # fmt: skip
        assert one.titles == two.titles == titles
        assert [len(letters) for letters in two.letters] == [4, 1]  # what waits goes out as one message
        it.close()

    run(story())


def test_what_was_not_taken_comes_again_later_under_the_same_id(tmp_path: Path) -> None:
    async def story() -> None:
        away, there = Heard("away", failures=2), Heard("there")
        it = Story(tmp_path, away, there)
        it.log.add(stopped())
        await it.turn()
        assert there.titles == ["Budget org-month is used up"]
        await it.turn()
        assert len(away.ids) == 1  # not before its pause is over
        it.clock.now += AGAIN_SECONDS
        it.restart()
        await it.turn()
        it.clock.now += AGAIN_SECONDS * 4 - 1
        await it.turn()
        assert len(away.ids) == 2
        it.clock.now += 1
        await it.turn()
        assert away.titles == ["Budget org-month is used up"]
        assert len(set(away.ids)) == 1
        assert it.alerting.failed["away"] == 1  # since its restart
        it.close()

    run(story())


def test_what_nobody_takes_for_a_day_is_given_up_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        away = Heard("away", failures=99)
        it = Story(tmp_path, away)
        it.log.add(stopped())
        await it.turn()
        it.clock.now += GIVE_UP_SECONDS
        await it.turn()
        it.clock.now += GIVE_UP_SECONDS
        await it.turn()
        assert len(away.ids) == 2
        it.close()

    run(story())
    assert "1 alerts for away are given up" in caplog.text


def test_what_is_older_than_a_day_is_counted_and_told_to_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        heard = Heard("one")
        it = Story(tmp_path, heard)
        it.clock.now += 86_401
        it.log.add(stopped())
        await it.turn()
        assert heard.titles == []
        assert it.book.tallies()["stop org-month"] == 1
        it.close()

    run(story())


def test_the_first_start_looks_at_nothing_of_before(tmp_path: Path) -> None:
    async def story() -> None:
        heard = Heard("one")
        it = Story(tmp_path, heard, begin=1)
        it.log.add(stopped())
        await it.turn()
        it.begin = 0
        it.restart()
        it.log.add(opened())
        await it.turn()
        assert heard.titles == ["Breaker of weather is open"]
        it.close()

    run(story())


def test_the_digest_comes_at_its_time_of_day_once_and_late_after_a_night_that_was_slept_through(tmp_path: Path) -> None:
    async def story() -> None:
        heard = Heard("one")
        it = Story(tmp_path, heard, daily=Daily(time(15, 0), "UTC"))  # in 46 minutes
        it.log.add(outcome(0), outcome(1), stopped(), stopped())
        await it.turn()
        assert heard.titles == ["Budget org-month is used up"]
        it.clock.now += 3600
        await it.turn()
        await it.turn()
        assert heard.titles[1:] == ["Daily digest"]
        text = heard.letters[-1][0].alert.text
        assert text == "2 calls, 2 refused, 0.025 usd.\ncalls stopped by a budget: org-month 2"
        it.clock.now += 3 * 86_400
        it.restart()
        it.log.add(outcome(2))
        await it.turn()  # the digest is older than what is read now
        await it.turn()
        assert heard.titles[2:] == ["Daily digest"]
        it.clock.now += 86_400
        await it.turn()
        assert heard.letters[-1][0].alert.text == "1 calls, 0 refused, 0.0125 usd."
        it.close()

    run(story())


def test_a_channel_that_hangs_holds_up_no_other_and_no_reading(tmp_path: Path) -> None:
    class Hanging(Heard):
        async def send(self, letters: Sequence[Letter]) -> None:
            await asyncio.Event().wait()

    async def story() -> None:
        there = Heard("there")
        told = asyncio.Event()

        class Telling(Heard):
            async def send(self, letters: Sequence[Letter]) -> None:
                await super().send(letters)
                told.set()

        there = Telling("there")
        it = Story(tmp_path, Hanging("stuck"), there)
        it.log.add(stopped())
        job = asyncio.create_task(it.alerting.run())
        async with asyncio.timeout(10):
            await told.wait()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        assert there.titles == ["Budget org-month is used up"]
        it.close()

    run(story())


def test_after_an_administrator_topped_up_an_account_its_stop_is_news_again(tmp_path: Path) -> None:
    async def story() -> None:
        heard = Heard("one")
        it = Story(tmp_path, heard)
        admin = {"kind": "admin", "action": "budget.top-up", "time": "2026-09-21T14:13:20.000000Z"}
        it.log.add(stopped(), {**admin, "adjustment": {"name": "other", "key": ["acme"]}}, stopped())
        await it.turn()
        assert len(heard.titles) == 1
        it.log.add({**admin, "adjustment": {"name": "org-month", "key": ["acme"]}}, stopped(), stopped())
        await it.turn()
        assert heard.titles == ["Budget org-month is used up"] * 2
        it.close()

    run(story())
