"""The section of the configuration about the log: how often it is signed, what of requests it keeps, and what never.

The rule: nothing of a request's content is kept unless the file says so, and then secrets are masked first. What the
built-in masks find cannot be switched off; the file only adds to it.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gateway import config_values as values
from gateway.config_schema import Choice, Flag, ListOf, Of, Text, Whole, option

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_PLACE = Text("a path below context, like context.arguments.customer.*", r"context(\.[^.]+)+")
_MEMBER = Text("a member's name", r"[^\x00]{1,128}")

CAPTURES = Choice(("none", "shape", "full"))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    records: int = option(Whole(1, 1_000_000), 1000, "sign after so many records", shown="1000")
    every: float = option(_DURATION, 1.0, "or after so long", shown="1s")


@dataclass(frozen=True, slots=True)
class Mask:
    """What captures never hold, besides what looks like a secret or has a secret's name."""

    paths: tuple[str, ...] = option(
        ListOf(_PLACE), (), "of the policy's input; * is any one member or item", shown="[]"
    )
    names: tuple[str, ...] = option(ListOf(_MEMBER), (), "of members, wherever they are", shown="[]")
    emails: bool = option(Flag(), False, "e-mail addresses too", shown="false")


@dataclass(frozen=True, slots=True)
class Audit:
    LATER: ClassVar[Mapping[str, str]] = {"sinks": "SIEM sinks are"}

    checkpoint: Checkpoint = option(Of(Checkpoint), Checkpoint(), "how often the log's head is signed")
    capture: str = option(
        CAPTURES, "none", "of what policy was asked: shape: types and lengths; full: values, masked", shown="none"
    )
    mask: Mask = option(Of(Mask), Mask(), "what captures never hold, besides secrets by their names and looks")


AUDIT = Of(Audit)
