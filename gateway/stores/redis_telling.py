"""Tells Redis this node's figures: all, or those that it may have lost. Absolute, so that telling twice changes
nothing.

The rule: a figure stays dirty until Redis has said that it has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.accounts import Account, CountersUnavailable
from gateway.stores import redis_scripts_node as scripts
from gateway.stores.redis_session import named
from gateway.stores.redis_truth import DAY, Truth
from gateway.stores.redis_wire import Link, Word
from gateway.stores.redis_words import Names

BATCH = 200  # figures, or exchanges, of one command
LEFT_SECONDS = 62 * DAY  # how long an account that nobody asks for stays in Redis; `total` ones stay

_PUSH: Final = named(scripts.PUSH)
_SET_MOST: Final = named(scripts.SET_MOST)
_MATCH: Final = named(scripts.MATCH)
_RESTORE: Final = named(scripts.RESTORE)


async def tell(link: Link, names: Names, session: Sequence[Word], truth: Truth, everything: bool = False) -> None:
    """Raises CountersUnavailable; what Redis did not say that it has is dirty."""
    wanted: list[Account] = list(truth.accounts) if everything else list(truth.dirty)
    truth.dirty.update(wanted)
    truth.dirty.difference_update(wanted)
    try:
        for start in range(0, len(wanted), BATCH):
            # Spelled and sent without a pause: a figure that was closed meanwhile must not be overtaken by an older
            # one.
            keys: list[Word] = [names.state]
            argv: list[Word] = []
            for account, kind, value, at, window in truth.entries(wanted[start : start + BATCH]):
                keys.append(names.account(account))
                argv += (kind, value, at, window, LEFT_SECONDS if account.period else 0)
            if argv:
                await _done(link, "EVALSHA", _PUSH, len(keys), *keys, *session[:2], *argv)
        words: list[Word] = []
        for field, (most, at_time) in truth.most.items():
            words += (field, "-" if most is None else most, f"{at_time:.6f}")
        for start in range(0, len(words), 3 * BATCH):
            some = words[start : start + 3 * BATCH]
            await _done(link, "EVALSHA", _SET_MOST, 2, names.state, names.most, *session[:2], *some)
    except BaseException:
        truth.dirty.update(wanted)
        raise


async def match(link: Link, names: Names, session: Sequence[Word], truth: Truth) -> None:
    """What open exchanges hold is in Redis, and nothing else of this node. Raises CountersUnavailable."""
    ids = [id for id, held in truth.open.items() if held.amounts]
    missing = await link.ask("EVALSHA", _MATCH, 2, names.state, names.opened, *session[:2], *ids)
    if not isinstance(missing, list):
        raise CountersUnavailable("another connection counts under this node's name")
    for name in {*missing, *(id.encode() for id in truth.resized)}:
        id = str(name, "utf-8")
        held = truth.open.get(id)
        if held is None:
            continue  # closed meanwhile: it holds nothing
        keys = [names.state, names.opened, *(names.account(account) for account in held.amounts)]
        await _done(link, "EVALSHA", _RESTORE, len(keys), *keys, *session[:2], id, *held.amounts.values())
    truth.resized.clear()


async def _done(link: Link, *words: Word) -> None:
    reply = await link.ask(*words)
    if reply not in (0, 1):
        raise CountersUnavailable("another connection counts under this node's name")
