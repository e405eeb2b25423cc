"""Counters in Redis, strict: each exchange asks once, in one script, and Redis away means that nobody is let through.

Rules, numbered as in the code:
1. One script for all rates, places and charges of an exchange, all or nothing; rates run on Redis's own clock.
2. Who waits longer than `wait` is told that nobody can say; whatever was taken for them all the same is given back when
   its answer comes, or when the next connection reconciles (redis_reconciling.py).
3. What could not be asked because the connection ended is asked once more over the next one, within the same time.
4. Closing never waits: the figures are in memory (redis_truth.py), and Redis is told at once or when it is back.
5. A server that was emptied or replaced is asked only when all nodes that were here lately have told it their figures.
It must never let through what Redis did not say, and never wait for Redis outside `take` and `grow`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import hiredis

from gateway.core.accounts import (
    Account,
    Adjustment,
    Ask,
    Balance,
    Budget,
    Charge,
    ChargeAsk,
    CountersUnavailable,
    Given,
    Standing,
)
from gateway.core.ports import Clock
from gateway.stores import redis_scripts as scripts
from gateway.stores import redis_scripts_node as node_scripts
from gateway.stores.redis_adjusting import adjust, balances_of
from gateway.stores.redis_flying import GROW, TAKE, Settling, Taking
from gateway.stores.redis_phrases import Phrase, Phrases
from gateway.stores.redis_session import named
from gateway.stores.redis_telling import tell
from gateway.stores.redis_truth import Held, Truth
from gateway.stores.redis_wire import Link, Word, elsewhere, refused
from gateway.stores.redis_words import (
    Names,
    given,
    grow_words,
    taken_places,
)

ASK_SECONDS = 2.0  # balances, checks and adjustments
PLACE_SECONDS = 60  # a place whose node does not say that it lives is free after this

_CLOSE: Final = named(scripts.CLOSE)
_TURN: Final = named(node_scripts.TURN)
_AWAY: Final = "the counters in Redis are away"
_SLOW: Final = "Redis does not answer in time"
_STALE: Final = "another connection counts under this node's name"


class RedisCounters:
    """core.ledger.Counters. `wait` is how long an exchange may wait for Redis, in seconds. Whoever keeps the
    connection (redis_reconciling.py) calls `ready` and `away`."""

    def __init__(self, names: Names, clock: Clock, wait: float) -> None:
        self.names: Final = names
        self.truth: Final = Truth()
        self.heard = float("-inf")  # when Redis last said what time it is; monotonic
        self.waits = 0  # how many were told that nobody can say
        self._clock: Final = clock
        self._wait: Final = wait
        self._asked: deque[Taking] = deque()  # in the order of their deadlines
        self._queue: list[Taking] = []  # until there is a connection
        self._flying: dict[str, Taking] = {}
        self._phrases: Final = Phrases()
        self._sweep: asyncio.TimerHandle | None = None
        self._link: Link | None = None
        self._session: tuple[Word, ...] = ()
        self._why = _AWAY
        self._slow = False
        self._offset = 0.0  # Redis's clock minus our monotonic one

    # -- what the pipeline asks

    def take(self, ask: Ask) -> asyncio.Future[Given]:
        phrase = self._phrases.of(ask, self.names, self.now, PLACE_SECONDS)
        return self._ask(Taking(self, TAKE, ask.id, phrase, self._wait))

    def grow(self, id: str, charges: Sequence[ChargeAsk]) -> asyncio.Future[Given]:
        names = self.names
        keys: list[Word] = [names.state, names.opened, names.most]
        argv: list[Word] = []
        for charge in charges:
            keys.append(names.account(charge.account))
            argv += grow_words(charge)
        return self._ask(Taking(self, GROW, id, Phrase(keys, argv, [], [], list(charges)), self._wait))

    def close(self, id: str, charges: Sequence[Charge]) -> None:
        held = self.truth.open.pop(id, None)
        if held is None:
            flying = self._flying.get(id)
            if flying is not None:
                flying.closed = True
            return
        names, places = self.names, held.places
        keys: list[Word] = [names.state, names.opened, *places]
        argv: list[Word] = [id, len(places)]
        accounts = []
        now = int(self.now()) if charges else 0
        for charge in charges:
            if charge.account in held.amounts:
                argv += self.truth.settle(charge.budget, charge.account, charge.settled or 0, now)
                keys.append(names.account(charge.account))
                accounts.append(charge.account)
        link = self._link
        if link is None:
            self.truth.dirty.update(accounts)  # 4
            self.truth.unsent.append((id, places))
            return
        words = ("EVALSHA", _CLOSE, len(keys), *keys, *self._session[:2], *argv)
        link.send(words, Settling(self, id, places, accounts))

    def turn(self, id: str, budget: Budget, account: Account, spent: int) -> None:
        """What was spent of a lease is settled, and the lease so much smaller. Never waits."""
        held = self.truth.open.get(id)
        if held is not None:
            held.amounts[account] = max(0, held.amounts.get(account, 0) - spent)
        figures = self.truth.settle(budget, account, spent, int(self.now()))
        link, turning = self._link, Settling(self, id, None, (account,))
        if link is None or held is None:
            turning.lost()
            return
        keys = (self.names.state, self.names.opened, self.names.account(account))
        link.send(("EVALSHA", _TURN, 3, *keys, *self._session[:2], id, held.amounts[account], *figures), turning)

    def holds(self, id: str) -> bool:
        """Whether the id has taken something that is not closed."""
        return id in self.truth.open

    def leave(self, id: str) -> None:
        """Its places are free now, its amounts stay until it is closed. While Redis is away they wait for that."""
        held, link = self.truth.open.get(id), self._link
        if held is not None and link is not None:
            held.left = True
            for place in held.places:
                link.send(("ZREM", place, id), _UNHEARD)

    async def balances(self, accounts: Sequence[tuple[Budget, Account]]) -> list[Balance]:
        return await balances_of(self, accounts)

    async def adjust(self, adjustment: Adjustment) -> None:
        """Counts at once in this node's memory, and in Redis as soon as it is there; only what is taken off a rolling
        account has to be asked."""
        await adjust(self, adjustment, self._clock)

    async def adopt(self, budgets: Sequence[Budget], standing: Standing) -> None:
        """What the log says of budgets that are new here, before anybody asks for them. Raises CountersUnavailable:
        then Redis hears of it when it is back."""
        self.truth.begin(budgets, standing, int(self.now()))
        await self.tell()

    async def check(self) -> None:
        await self.reply("PING")

    # -- what whoever keeps the connection says

    def ready(self, link: Link, generation: int, epoch: str) -> None:
        """Reconciled: from now on it is asked."""
        self._link, self._session = link, (self.names.node, generation, epoch)
        self._why, self._slow = "", False
        unsent, self.truth.unsent = self.truth.unsent, []
        for id, places in unsent:
            keys: tuple[Word, ...] = (self.names.state, self.names.opened, *places)
            words: tuple[Word, ...] = ("EVALSHA", _CLOSE, len(keys), *keys, *self._session[:2], id, len(places))
            link.send(words, Settling(self, id, places, ()))
        queue, self._queue = self._queue, []
        for taking in queue:
            self._send(link, taking)

    def away(self, why: str, failed: bool) -> None:
        """The connection is gone; `failed`: an attempt at a new one came to nothing, so nobody waits for it."""
        self._link = None
        if failed:
            self._why = why
            queue, self._queue = self._queue, []
            for taking in queue:
                self._fail(taking, why)

    def tick(self, redis_seconds: float) -> None:
        """What Redis's clock said just now."""
        self.heard = self._clock.monotonic()
        self._offset = redis_seconds - self.heard

    def now(self) -> float:
        """Redis's time, epoch seconds."""
        return self._clock.monotonic() + self._offset if self._offset else self._clock.time()

    async def drained(self) -> None:
        """Everything that was sent was answered; where Redis is away, at once."""
        link = self._link
        if link is not None:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    await link.ask("PING")
            except (CountersUnavailable, TimeoutError):
                return

    async def ask(self, sha: str, keys: Sequence[Word], argv: Sequence[Word]) -> object:
        """A script that must come over this node's newest connection. Raises CountersUnavailable."""
        return await self.reply("EVALSHA", sha, len(keys), *keys, *self._session[:2], *argv)

    async def reply(self, *words: Word) -> object:
        """Raises CountersUnavailable."""
        if self._link is None:
            raise CountersUnavailable(self._why or _AWAY)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await self._link.ask(*words)
        except TimeoutError:
            raise CountersUnavailable(_SLOW) from None

    async def tell(self) -> None:
        """What it may have lost, where Redis is there. Raises CountersUnavailable."""
        if self._link is not None:
            await tell(self._link, self.names, self._session, self.truth)

    @property
    def slow(self) -> bool:
        """Somebody has waited in vain, and no answer came since."""
        return self._slow

    @property
    def why(self) -> str:
        """Why nobody is let through; "" when all is well."""
        return self._why

    @property
    def connected(self) -> bool:
        return self._link is not None

    # -- answers

    def told(self, taking: Taking, reply: object) -> None:
        self._slow = False
        if self._flying.get(taking.id) is taking:
            del self._flying[taking.id]
        if isinstance(reply, list):
            self._counted(taking, reply)
        elif reply == scripts.TWICE:
            self._fault(taking)
        else:
            self.doubt(reply)
            if isinstance(reply, hiredis.ReplyError) and not elsewhere(reply):
                self._fail(taking, str(refused(reply)))
            else:
                self.queue(taking)

    def queue(self, taking: Taking) -> None:
        """3: the connection ended before its answer."""
        self._flying.pop(taking.id, None)
        if taking.again or taking.closed or self._why:
            self._fail(taking, self._why or _AWAY)
        elif not taking.future.done():
            taking.again = True
            self._queue.append(taking)

    def doubt(self, reply: object) -> None:
        """An answer after which this connection is not to be trusted: the next one reconciles."""
        if self._link is not None:
            self._link.end(_STALE if reply == scripts.STALE else f"Redis answered {str(reply).split(' ', 1)[0][:40]}")

    def _counted(self, taking: Taking, reply: list[int]) -> None:
        """All or nothing was taken."""
        future, opened, phrase = taking.future, self.truth.open, taking.phrase
        if reply[0] == 1:
            if taking.sha == GROW:
                held = opened.get(taking.id)
                if held is not None:  # else its CLOSE is on the way behind it
                    _add(held.amounts, phrase.charges)
            elif phrase.charges or phrase.places:
                amounts: dict[Account, int] = {}
                _add(amounts, phrase.charges)
                places: list[str] = []
                if phrase.places:
                    places = taken_places(
                        reply, taking.place_keys, len(phrase.rates), phrase.places, len(phrase.charges)
                    )
                if amounts or places:
                    opened[taking.id] = Held(amounts, places)
                    if taking.closed or future.done():
                        self.close(taking.id, ())  # 2
        if not future.done():
            future.set_result(given(reply, phrase.rates, phrase.places, phrase.charges))

    # -- within

    def _ask(self, taking: Taking) -> asyncio.Future[Given]:
        if self._why or self._slow:
            self.waits += 1
            raise CountersUnavailable(self._why or _SLOW)
        self._asked.append(taking)
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._wait, self._look, loop)
        link = self._link
        if link is None:
            self._queue.append(taking)
        else:
            self._send(link, taking)
        return taking.future

    def _send(self, link: Link, taking: Taking) -> None:
        if taking.future.done() or taking.closed or (taking.sha == GROW and taking.id not in self.truth.open):
            self._fail(taking, _AWAY)
            return
        if taking.sha == TAKE:
            self._flying[taking.id] = taking
        link.say(taking.phrase, taking.sha, self._session, taking.id, taking)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """2: whoever has waited for too long waits no longer."""
        now, asked = loop.time(), self._asked
        while asked and (asked[0].future.done() or asked[0].due <= now):
            taking = asked.popleft()
            if not taking.future.done():
                self._slow = True
                self._fail(taking, _SLOW)
        self._sweep = loop.call_later(max(asked[0].due - now, self._wait / 8), self._look, loop) if asked else None

    def _fail(self, taking: Taking, why: str) -> None:
        if not taking.future.done():
            self.waits += 1
            taking.future.set_exception(CountersUnavailable(why))

    def _fault(self, taking: Taking) -> None:
        if not taking.future.done():
            taking.future.set_exception(RuntimeError(f"exchange {taking.id} asks the counters twice"))


class _Unheard:
    """Nobody asks what became of it: it is done once more when the id is closed."""

    __slots__ = ()

    def answered(self, reply: object) -> None:
        pass

    def lost(self) -> None:
        pass


_UNHEARD: Final = _Unheard()


def _add(amounts: dict[Account, int], charges: Sequence[ChargeAsk]) -> None:
    for charge in charges:
        amounts[charge.account] = amounts.get(charge.account, 0) + charge.amount
