"""Closes the exchange's account: settles usage, gives every permit back, tells the observer. Runs whatever happened."""

from __future__ import annotations

from gateway.core.exchange import Exchange
from gateway.core.ports import Observer


class Meter:
    name = "meter"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __call__(self, exchange: Exchange) -> None:
        try:
            _release(exchange)
            if exchange.body is not None:
                exchange.usage.bytes_in = len(exchange.body)
            reader, exchange.reader = exchange.reader, None
            if reader is not None:
                reader.finish(exchange.usage)
        finally:
            self._observer.finished(exchange)


def _release(exchange: Exchange) -> None:
    """Every one, also when one of them breaks: a permit that stays out is a place that nobody gets again."""
    permits = exchange.permits
    try:
        while permits:
            permits.pop().release()
    finally:
        if permits:
            _release(exchange)
