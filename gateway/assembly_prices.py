"""The price list of a configuration: from its file to the table that a snapshot has, and again when the file changes.

The rule: a table is made whole or not at all, and a file that cannot be used leaves the running one in force, saying
why once. Called from assembly.py for each snapshot, from app.py twice a second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from gateway import config
from gateway.ledger.estimates import Reach
from gateway.ledger.price_rows import Level, Rates, Row
from gateway.ledger.prices import PriceTable


def read_table(path: Path | None) -> PriceTable:
    """Raises ConfigError, OSError."""
    if path is None:
        return PriceTable()
    with path.open("rb") as stream:
        data = stream.read(config.FILE_LIMIT_BYTES + 1)
    if len(data) > config.FILE_LIMIT_BYTES:
        problem = config.Problem(config.Place(str(path)), "", f"larger than {config.FILE_LIMIT_BYTES} bytes")
        raise config.ConfigError([problem])
    return table(config.read_prices(data, str(path)), "sha256:" + hashlib.sha256(data).hexdigest())


def table(found: config.PriceList, revision: str) -> PriceTable:
    return PriceTable([*_models(found), *_others(found), *_free(found.free)], revision)


def _models(found: config.PriceList) -> list[Row]:
    return [
        Row(
            "models",
            row.model,
            upstream=row.upstream,
            begins=config.seconds(row.valid_from),
            ends=config.seconds(row.valid_until, last=True),
            levels=_levels(row, row.tiers),
            services={name: _levels(service, service.tiers) for name, service in row.services.items()},
            assumed=row.default_service,
            per_call=row.per_call,
            reach=Reach(row.max_input_tokens, row.max_output_tokens, row.bytes_per_token, row.image_tokens),
            hidden=row.reasoning is not False,
        )
        for row in found.models
    ]


def _levels(plain: config.ModelPrice | config.Service, tiers: Sequence[config.Tier]) -> list[Level]:
    return [Level(0, _rates(plain)), *(Level(tier.above, _rates(tier)) for tier in tiers)]


def _rates(found: config.ModelPrice | config.Service | config.Tier) -> Rates:
    thought = found.reasoning if not isinstance(found.reasoning, bool) else None
    return Rates(
        found.input,
        found.output,
        cached=found.cached,
        cache_write=found.cache_write,
        cache_write_1h=found.cache_write_1h,
        reasoning=thought,
        image=found.image,
        image_output=found.image_output,
        audio=found.audio,
        audio_output=found.audio_output,
    )


def _others(found: config.PriceList) -> list[Row]:
    rows = [
        Row(
            "tools", row.tool, upstream=row.upstream, begins=config.seconds(row.valid_from),
            ends=config.seconds(row.valid_until, last=True), per_call=row.per_call, reported=row.reported_up_to,
        )
        for row in found.tools
    ]  # fmt: skip
    rows += [
        Row(
            "agents", row.agent, begins=config.seconds(row.valid_from),
            ends=config.seconds(row.valid_until, last=True), per_call=row.per_call, reported=row.reported_up_to,
        )
        for row in found.agents
    ]  # fmt: skip
    rows += [
        Row(
            "http", row.path, upstream=row.upstream, begins=config.seconds(row.valid_from),
            ends=config.seconds(row.valid_until, last=True), per_call=row.per_call,
        )
        for row in found.http
    ]  # fmt: skip
    return rows


def _free(found: config.FreeOfCharge) -> list[Row]:
    kinds = {"models": found.models, "tools": found.tools, "agents": found.agents, "http": found.http}
    return [Row(kind, pattern) for kind, patterns in kinds.items() for pattern in patterns]


class PriceFile:
    """The file behind a table. Raises ConfigError, OSError."""

    __slots__ = ("_path", "_stamp", "table")

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp = _look(path)  # before it is read: what is written meanwhile is a change
        self.table = read_table(path)

    def changed(self) -> bool:
        """True once for each change. Blocks: it looks at the disk."""
        found = _look(self._path)
        if found is None or found == self._stamp:
            return False  # one that is away for a moment is being replaced
        self._stamp = found
        return True


def _look(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
