"""What is known of one MCP upstream, in the form in which calls and lists ask for it.

The rule it keeps: a call to something pinned is one lookup in a table that holds only what may be reached; the tables
follow the registry, item by item. It does no I/O and decides nothing (tools.py does).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.core.canonical import Json
from gateway.core.descriptors import Described, Standing
from gateway.core.snapshot import Upstream
from gateway.trust.signers import TrustedSigner
from gateway.trust.templates import pattern
from gateway.trust.tools import Pin, Rules, Seen, Shape, see

MAX_ITEMS = 1000  # of one kind at one upstream; an upstream that makes up names must not fill the store
TOO_MANY = f"there are more than {MAX_ITEMS}"

_TEXT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode


class Good(NamedTuple):
    """What may be reached: its digest, and what the record says of it."""

    digest: str
    descriptor: dict[str, Json]


@dataclass(frozen=True, slots=True)
class PinSettings:
    """One upstream's `tools` section. `refresh` in seconds; `manifest` a path or a URL; `trusted` whose signatures
    on it count."""

    pin: Pin = Pin.NONE
    refresh: float = 300.0
    manifest: str = ""
    trusted: tuple[TrustedSigner, ...] = ()


@dataclass(slots=True, eq=False)
class Watched:
    upstream: Upstream
    settings: PinSettings
    rules: Rules
    tables: dict[str, dict[str, Good]] = field(default_factory=lambda: {"tool": {}, "prompt": {}, "resource": {}})
    templates: dict[str, tuple[re.Pattern[str], Good]] = field(default_factory=dict)
    hidden: set[tuple[str, str]] = field(default_factory=set)  # what is blocked, by kind and name
    names: dict[str, set[str]] = field(default_factory=dict)  # all that is known, by kind
    ready: bool = False  # a first list was tried since the start
    listed: bool = False  # and one succeeded
    judged: bool = False  # what the registry holds was judged by the rules in force
    failed: str = ""
    due: float = 0.0  # monotonic
    ended: float = float("-inf")  # of the last listing
    listing: asyncio.Task[None] | None = None
    told: set[tuple[str, str, str]] = field(default_factory=set)  # quarantines that have their record
    _texts: dict[tuple[str, str], tuple[bytes, Seen]] = field(default_factory=dict)

    def place(self, item: Described) -> None:
        """Follows the registry."""
        kind, name = item.kind, item.name
        if kind not in ("tool", "prompt", "resource", "resource_template"):
            return
        self.names.setdefault(kind, set()).add(name)
        blocked = item.standing is Standing.BLOCKED
        (self.hidden.add if blocked else self.hidden.discard)((kind, name))
        good: Good | None = None
        if self.rules.reached(item):
            good = Good(item.approved, {"digest": item.approved, "by": item.by})
        if kind == "resource_template":
            if good is None:
                self.templates.pop(name, None)
            else:
                self.templates[name] = (pattern(name), good)
            return
        ident = name if kind == "resource" else f"{self.upstream.name}/{name}"
        if good is None:
            self.tables[kind].pop(ident, None)
        else:
            self.tables[kind][ident] = good

    def good(self, kind: str, name: str) -> Good | None:
        if kind == "resource_template":
            found = self.templates.get(name)
            return found[1] if found is not None else None
        return self.tables[kind].get(name if kind == "resource" else f"{self.upstream.name}/{name}")

    def seen(self, shape: Shape, item: Mapping[str, Json]) -> tuple[Seen, bool]:
        """The item's digest, and whether it is other than when it was last listed."""
        name = str(item[shape.key])
        if "_meta" in item:
            item = {key: value for key, value in item.items() if key != "_meta"}
        text = hashlib.sha256(_TEXT(item).encode()).digest()
        before = self._texts.get((shape.kind, name))
        if before is not None and before[0] == text:
            return before[1], False
        known = self.names.get(shape.kind, ())
        if name not in known and len(known) >= MAX_ITEMS:
            return Seen(shape.kind, name, "", None, TOO_MANY), False
        found = see(shape.kind, name, item)
        self._texts[shape.kind, name] = (text, found)
        return found, True

    def shows(self, seen: Seen) -> bool:
        """Whether an item of a list may be seen."""
        if (seen.kind, seen.name) in self.hidden:
            return False
        if self.rules.pin is Pin.NONE or not self.minds(seen.kind, seen.document):
            return True
        good = self.good(seen.kind, seen.name)
        return good is not None and good.digest == seen.digest

    def minds(self, kind: str, document: Json) -> bool:
        """Whether this is pinned at all: first_use lets resources come and go that describe nothing, since they are
        data and no words to a model."""
        if kind != "resource" or self.rules.pin is not Pin.FIRST_USE or not isinstance(document, dict):
            return True
        return "description" in document

    def forget(self) -> None:
        """After an approval: whatever is listed next is looked at anew."""
        self._texts.clear()
        self.told.clear()

    def matching(self, uri: str, templates: Sequence[str]) -> list[str]:
        return [template for template in templates if template == uri or pattern(template).fullmatch(uri) is not None]
