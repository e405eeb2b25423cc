"""Two processes that count together in one Redis: exact, also when one of them is killed in between (rows 66, R9)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.core.accounts import Balance, Tally
from tests.ports.counting import account, budget
from tests.stores.redis_server import Log, Running, node, server

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def spender(running: Running, name: str, callers: int, amount: int, how: str) -> Iterator[subprocess.Popen[str]]:
    words = [
        sys.executable,
        "-m",
        "tests.stores.redis_spender",
        str(running.port),
        name,
        str(callers),
        str(amount),
        how,
    ]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


async def balance(running: Running, name: str, amount: int, log: Log | None = None) -> Balance:
    of = budget("shared", amount=amount)
    async with node(running.at(), name=name, log=log) as looking:
        [found] = await looking.counters.balances([(of, account(of))])
        return found


@pytest.mark.parametrize(("callers", "amount"), [(64, 10), (2000, 3000)])
def test_two_processes_let_exactly_as_many_through_as_there_are(callers: int, amount: int) -> None:
    with (
        server() as running,
        spender(running, "a", callers, amount, "settle") as one,
        spender(running, "b", callers, amount, "settle") as two,
    ):
        go(one)
        go(two)
        assert said(one) + said(two) == amount
        found = asyncio.run(balance(running, "looking", amount))
        assert (found.settled, found.reserved, found.left) == (amount, 0, 0)


def test_what_a_killed_process_held_is_spent_until_its_log_says_what_became_of_it() -> None:
    amount = 100
    with server() as running:
        with spender(running, "a", 40, amount, "hold") as one:
            go(one)
            assert said(one) == 40
            one.kill()
            one.wait()
        with spender(running, "b", 100, amount, "settle") as two:
            go(two)
            assert said(two) == 60
        assert asyncio.run(balance(running, "looking", amount)).left == 0
        of = budget("shared", amount=amount)
        log = Log([of], [Tally(account(of), 25)])  # 25 intents were there, closed as unknown; 15 never got so far
        found = asyncio.run(balance(running, "a", amount, log))
        assert (found.settled, found.reserved, found.left) == (85, 0, 15)
