"""Closes the exchange's account: settles usage, gives every permit back, tells the observer. Runs whatever happened."""

from __future__ import annotations

from gateway.core.exchange import Exchange
from gateway.core.ports import Observer


class Meter:
    name = "meter"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __call__(self, exchange: Exchange) -> None:
        while exchange.permits:
            exchange.permits.pop().release()
        if exchange.body is not None:
            exchange.usage.bytes_in = len(exchange.body)
        if exchange.reader is not None:
            exchange.reader.finish(exchange.usage)
            exchange.reader = None
        self._observer.finished(exchange)
