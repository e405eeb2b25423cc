"""Ids are UUIDv7: in order of time, random otherwise, and written as everybody else writes them."""

from __future__ import annotations

import itertools
import time
import uuid

from gateway.core.ids import POOL_IDS, Ids


def test_ids_are_uuids_of_version_7_in_their_one_spelling() -> None:
    ids = Ids(time.time)
    made = [ids.new() for _ in range(3 * POOL_IDS)]
    assert len(set(made)) == len(made)
    for text in made:
        read = uuid.UUID(text)
        assert (read.version, read.variant, str(read)) == (7, uuid.RFC_4122, text)


def test_an_id_begins_with_its_millisecond() -> None:
    moments = itertools.count(1_700_000_000_123, 1)
    ids = Ids(lambda: next(moments) / 1000)
    made = [ids.new() for _ in range(300)]
    assert made == sorted(made)
    assert int(made[0].replace("-", "")[:12], 16) in (1_700_000_000_122, 1_700_000_000_123)


def test_all_but_version_and_variant_is_random() -> None:
    assert Ids(lambda: 0.0, lambda size: b"\xff" * size).new() == "00000000-0000-7fff-bfff-ffffffffffff"
    assert Ids(lambda: 0.0, lambda size: bytes(size)).new() == "00000000-0000-7000-8000-000000000000"
