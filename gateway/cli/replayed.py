"""What a replay found, for a person; and whether it found more than was allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.cli.output import table

_TITLES: Final = {"allow_to_deny": "allow -> deny", "deny_to_allow": "deny -> allow", "obligations": "obligations"}
_NAMED: Final = {
    "allow_to_deny": "new denies (--max-new-denies)",
    "deny_to_allow": "new allows (--max-new-allows)",
    "not_replayable": "not replayable (--max-not-replayable)",
}


def limits_exceeded(document: Mapping[str, Any], limits: Mapping[str, int | None]) -> list[str]:
    """One line for each limit that does not hold. A limit on flips that nothing could be held against does not hold."""
    found = [
        f"{document[name]} {_NAMED[name]}, {limit} are allowed"
        for name, limit in limits.items()
        if limit is not None and document[name] > limit
    ]
    flips = [limits[name] for name in ("allow_to_deny", "deny_to_allow")]
    if document["decisions"] and not document["replayed"] and any(limit is not None for limit in flips):
        found.append("no decision could be replayed, so no limit on flips can be held")
    return found


def text_of(document: Mapping[str, Any]) -> str:
    lines = [
        f"{document['decisions']} decisions, {document['replayed']} replayed, {document['unchanged']} unchanged",
        f"candidate {document['candidate']}",
        *(f"  {title}: {document[kind]}" for kind, title in _TITLES.items()),
    ]
    if document["reworded"]:
        lines.append(f"  same effect, other rule or reason: {document['reworded']}")
    if document["not_replayable"]:
        lines.append(f"  not replayable: {document['not_replayable']}")
        lines += [f"    {count}  {why}" for why, count in document["not_replayable_because"].items()]
    if document["list_items"]:
        lines.append(f"  items of filtered lists, which are not recorded one by one: {document['list_items']}")
    for sort in ("rule", "subject", "resource"):
        rows = [[str(row[kind]) for kind in _TITLES] + [str(row["name"])] for row in document[f"by_{sort}"]]
        if rows:
            lines += ["", table([[*_TITLES.values(), f"by {sort}"], *rows])]
    if document["examples"]:
        lines += ["", "examples"]
    for example in document["examples"]:
        lines.append(f"  {example['exchange']}  {_TITLES[example['change']]}")
        lines.append(f"    {example['time']}  {example['subject']}  {example['action']}  {example['resource']}")
        lines += [f"    {name}: {found['was']!r} -> {found['would_be']!r}" for name, found in example["diff"].items()]
    return "\n".join(lines)
