"""What a dead worker leaves behind: its books are closed in its stead.

Every exchange that it left open gets its `unknown` record, with what its counters had settled of it already and the
whole reservation of the rest; the counters then count what the record says, each charge once.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.core.accounts import Charge, amount, shown
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock
from gateway.core.records import timestamp
from gateway.ledger.remote import CountersClerk
from gateway.log.clerk import LogClerk


def close_books(log: LogClerk, counters: CountersClerk | None, ids: Ids, clock: Clock) -> int:
    """How many exchanges were left open. `counters` None: it counted elsewhere by itself."""
    came: dict[str, dict[tuple[str, str], int]] = {}

    def closed(record: dict[str, Json]) -> dict[str, Json]:
        exchange = str(record["exchange"])
        settled = {_place(one): one for one in (counters.came(exchange) if counters is not None else ())}
        found = came[exchange] = {}
        for entry in _entries(record):
            place = str(entry["name"]), orjson.dumps([entry.get("key"), entry.get("period", "")]).decode()
            charge = settled.get(place)
            if charge is not None:
                entry["settled"] = shown(charge.settled or 0, charge.budget.unit)
            found[place] = amount(str(entry["settled"]), str(entry["unit"]))
        return {**record, "id": ids.new(), "time": timestamp(clock.time())}

    unknown = log.close(closed)
    if counters is not None:

        def settled(exchange: str) -> Callable[[Charge], int] | None:
            found = came.get(exchange)
            return None if found is None else lambda charge: found.get(_place(charge), 0)

        counters.lost(settled)
    return len(unknown)


def _entries(record: dict[str, Json]) -> list[dict[str, Json]]:
    found = record.get("budgets")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _place(charge: Charge) -> tuple[str, str]:
    """How a charge is found in a record: the budget's name, key and period."""
    account = charge.account
    return account.budget, orjson.dumps([orjson.loads(account.key), account.period]).decode()
