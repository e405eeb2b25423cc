"""Closes the exchange's account: what was used, what that costs, what of budgets, places and permits goes back; then
the observer is told. Every step runs, whatever broke before it."""

from __future__ import annotations

from gateway.core.exchange import Exchange
from gateway.core.ports import Observer
from gateway.core.settlement import price


class Meter:
    name = "meter"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __call__(self, exchange: Exchange) -> None:
        try:
            _count(exchange)
        finally:
            try:
                if exchange.charges or exchange.places:
                    exchange.snapshot.ledger.settle(exchange)
            finally:
                try:
                    if exchange.permits:
                        _release(exchange)
                finally:
                    self._observer.finished(exchange)


def _count(exchange: Exchange) -> None:
    if exchange.body is not None:
        exchange.usage.bytes_in = len(exchange.body)
    try:
        reader, exchange.reader = exchange.reader, None
        if reader is not None:
            reader.finish(exchange.usage)
    finally:
        price(exchange)


def _release(exchange: Exchange) -> None:
    """Every one, also when one of them breaks: a permit that stays out is a place that nobody gets again."""
    permits = exchange.permits
    try:
        while permits:
            permits.pop().release()
    finally:
        if permits:
            _release(exchange)
