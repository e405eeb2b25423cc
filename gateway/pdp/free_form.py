"""What engines say beside their decision, where their protocol leaves the form of it open (AuthZEN's context, Cerbos's
outputs): what of it is meant for the gateway, in the form that policies answer in.

The rules:
1. `reason`, `rule` and `obligations` are read strictly, as of any policy. What else is said is for others and ignored.
2. But for what could be an obligation under another name: that is a deny, because nobody would keep it.
3. An obligation is flat (`{type, ...}`) or in the form of AuthZEN's profile (`{id, type, properties}`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.canonical import Json

_OURS = ("reason", "rule", "obligations")
_PROFILE = frozenset({"id", "type", "properties"})


def meant(said: Mapping[str, Json]) -> dict[str, Json]:
    """The context of an answer as the Reader takes it: a name that is none of ours stays in where it is suspicious (2),
    and so becomes a deny that names it."""
    found: dict[str, Json] = {}
    for name, value in said.items():
        if name == "obligations" and isinstance(value, list):
            found[name] = [_flat(item) for item in value]
        elif name in _OURS or _suspicious(name):
            found[name] = value
    return found


def merged(parts: Iterable[Mapping[str, Json]]) -> dict[str, Json]:
    """Of several rules that all speak: the first reason and rule, and every obligation."""
    found: dict[str, Json] = {}
    obligations: list[Json] = []
    for part in parts:
        for name, value in part.items():
            if name == "obligations" and isinstance(value, list):
                obligations += value
            else:
                found.setdefault(name, value)
    if obligations and "obligations" not in found:  # one that is no list stays, and is refused
        found["obligations"] = obligations
    return found


def _suspicious(name: str) -> bool:
    lower = name.lower()
    return "oblig" in lower or "advice" in lower


def _flat(item: Json) -> Json:  # 3
    if not isinstance(item, dict) or item.keys() - _PROFILE or not isinstance(item.get("properties"), dict):
        return item
    properties = item["properties"]
    assert isinstance(properties, dict)
    return {**properties, "type": item.get("type")}
