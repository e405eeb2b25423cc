"""Keeps what policy is about to be asked, where the route's records are to hold it.

Before Decide, so that what is kept is what was decided and nothing that an obligation made of it. On routes that keep
nothing it does nothing. The record's own stage writes it; it never leaves the exchange unmasked.
"""

from __future__ import annotations

from gateway.core.access import access_request
from gateway.core.capture import Capture
from gateway.core.exchange import Call, Exchange
from gateway.core.pipeline import CONTINUE, Verdict


class CaptureInput:
    name = "capture"

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def __call__(self, exchange: Exchange) -> Verdict:
        level, asked = exchange.route.capture, exchange.asked
        if level == "none" or not isinstance(asked, Call):
            return CONTINUE
        size = len(exchange.body) if exchange.body is not None else 0
        exchange.capture = self._capture.of(level, access_request(exchange, asked).document, size)
        return CONTINUE
