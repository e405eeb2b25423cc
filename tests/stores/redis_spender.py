"""A process that counts in Redis for itself: takes as many of a budget as it gets, says how many."""

from __future__ import annotations

import asyncio
import sys

from gateway.core.accounts import Ask, CountersUnavailable
from gateway.stores.redis_wire import Server
from tests.ports.counting import budget, charge, closed, taken
from tests.stores.redis_server import node


async def main(port: int, name: str, callers: int, amount: int, settle: bool) -> None:
    of = budget("shared", amount=amount)
    async with node(Server("127.0.0.1", port), name=name, wait=10.0) as gateway:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def call(at: int) -> bool:
            ask = charge(of, 1)
            try:
                given = await taken(gateway.counters, Ask(f"{name}-{at}", [], [], [ask]))
            except CountersUnavailable:
                return False
            if given.ok and settle:
                gateway.counters.close(f"{name}-{at}", [closed(ask, 1)])
            return given.ok

        found = await asyncio.gather(*(call(at) for at in range(callers)))
        await gateway.counters.drained()
        print(sum(found), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "settle"))
