"""Policy data written as YAML, read so that it means the same to this gateway and to OPA.

The rule: YAML 1.2 core schema without anchors, aliases, merges and tags; no name twice; and no unquoted word that
readers of different YAML versions take for different values (`yes`, `0755`, `12:30`). Such a word is an error that
names its line, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from gateway.core.canonical import MAX_DEPTH, MAX_INTEGER, Json
from gateway.core.reasons import Malformed

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_AMBIGUOUS = re.compile(
    r"[-+]?\.?[0-9][0-9_.,:oxa-fA-FeE+-]*|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?"
    r"|y|Y|n|N|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|=|<<"
)


def parse_yaml(text: str) -> Json:
    """The value of one YAML document; an empty one is null. Raises Malformed with the line."""
    try:
        events = iter(list(yaml.parse(text, Loader=yaml.SafeLoader)))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Malformed(f"line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise Malformed(f"not YAML: {error}") from None
    next(events)  # the stream begins
    if isinstance(next(events), yaml.StreamEndEvent):
        return None
    value = _value(next(events), events, 0)
    next(events)  # the document ends
    if not isinstance(next(events), yaml.StreamEndEvent):
        raise Malformed("more than one YAML document")
    return value


def _value(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Json:
    line = _line(event)
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise Malformed(f"line {line}: anchors and aliases are not allowed; write the value out")
    if getattr(event, "tag", None) is not None:
        raise Malformed(f"line {line}: tags are not allowed")
    if depth > MAX_DEPTH:
        raise Malformed(f"line {line}: deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event.value, line) if event.style is None else event.value
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Json] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_value(event, events, depth + 1))
        return items
    found: dict[str, Json] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        line = _line(event)
        name = _value(event, events, depth + 1)
        if not isinstance(name, str):
            raise Malformed(f"line {line}: a name must be text; quote it")
        if name in found:
            raise Malformed(f"line {line}: {name!r} occurs twice")
        found[name] = _value(next(events), events, depth + 1)
    return found


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _scalar(text: str, line: int) -> Json:
    """A plain word by the core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.fullmatch(text):
        number = int(text) if len(text) < 20 else MAX_INTEGER + 1
        if abs(number) > MAX_INTEGER:
            raise Malformed(f"line {line}: {text} is beyond 2^53-1; quote it")
        return number
    if _FLOAT.fullmatch(text) and abs(float(text)) != float("inf"):
        return float(text)
    if _AMBIGUOUS.fullmatch(text):
        raise Malformed(f"line {line}: {text} means different things to different YAML readers; quote it")
    return text
