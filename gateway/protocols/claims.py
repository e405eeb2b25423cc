"""What an answer mints for its caller: bound before it is shown (ruling 13).

The rule: what another caller has stays theirs. A task of another's is not shown at all, since what is shown of it is
theirs. The name of a conversation or a stored response is only a name: it is shown and not bound, so that whoever uses
it is refused. What the request named and was looked up is not asked about again.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.exchange import Exchange, Handle
from gateway.core.ports import Bind
from gateway.core.reasons import Malformed


class Claims:
    """The handles of one exchange. `names`: the kinds that are only names."""

    __slots__ = ("_anew", "_bind", "_known", "_names", "_owner")

    def __init__(self, exchange: Exchange, bind: Bind, names: frozenset[str]) -> None:
        if exchange.principal is None:
            raise RuntimeError("an answer belongs to an identified caller")
        self._owner = exchange.principal.id
        self._anew = exchange.hides is not None  # what a redacted answer shows is marked, also what is bound already
        self._bind = bind
        self._names = names
        self._known = {handle for handle in exchange.call.handles if not handle.chosen}

    async def claim(self, handles: Iterable[Handle]) -> None:
        """Binds what nobody has. Raises Malformed for what another caller has and is more than a name."""
        for handle in handles:
            if handle in self._known:
                continue
            if not await self._bound(handle) and handle.kind not in self._names:
                raise Malformed("it holds a task of another caller")
            self._known.add(handle)

    async def owns(self, handle: Handle) -> bool:
        return handle in self._known or await self._bind.owner(handle) == self._owner

    def knows(self, handle: Handle) -> bool:
        """Whether it was claimed, or looked up, in this exchange."""
        return handle in self._known

    async def _bound(self, handle: Handle) -> bool:
        owner = await self._bind.owner(handle)
        if owner is None or (owner == self._owner and self._anew):
            try:
                await self._bind(handle)
            except Malformed:
                return False  # somebody else was faster
        return owner in (None, self._owner)
