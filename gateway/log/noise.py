"""Bytes that never made a head: counted, and recorded as one aggregate per peer and second (ruling 18).

A flood of garbage must leave a trace and must not become a flood of records. Told by the front, which only counts here;
`flush` is called once a second by whoever runs the background loops.
"""

from __future__ import annotations

import logging

from gateway.core import records
from gateway.core.canonical import Json
from gateway.core.ids import Ids
from gateway.core.ports import Clock, RecordLog
from gateway.core.reasons import LogUnavailable, Reason

PEERS_LIMIT = 1024  # peers named in one second; what is beyond them is summed under "others"

_log = logging.getLogger("tollgate.noise")


class Noise:
    """Implements the front's FrontEvents. `total` is since the start, for metrics."""

    def __init__(self, log: RecordLog, ids: Ids, clock: Clock) -> None:
        self._records = log
        self._ids = ids
        self._clock = clock
        self._counts: dict[str, dict[str, int]] = {}
        self.total = 0

    def bad_bytes(self, peer: str, reason: str) -> None:
        self.total += 1
        if peer not in self._counts and len(self._counts) >= PEERS_LIMIT:
            peer = "others"
        rules = self._counts.setdefault(peer, {})
        rules[reason] = rules.get(reason, 0) + 1

    def flush(self) -> None:
        """One record for each peer heard since the last call."""
        counts, self._counts = self._counts, {}
        for peer, rules in counts.items():
            now = self._clock.time()
            seen: dict[str, Json] = dict(sorted(rules.items()))
            record: dict[str, Json] = {
                "id": self._ids.new(),
                "kind": "refusal",
                "refusal": {"count": sum(rules.values()), "reason": str(Reason.MALFORMED), "rules": seen},
                "request": {"peer": peer},
                "time": records.timestamp(now),
            }
            try:
                self._records.submit(record)
            except LogUnavailable as error:
                _log.error("%d malformed requests of %s have no record: %s", sum(rules.values()), peer, error)
