"""Which patterns mean the same to this engine and to OPA.

The rule: a pattern is written out in the policy, so that it can be read when the policy is loaded, and has nothing in
it that the two read differently: `\\d`, `\\w`, `\\s` and `\\b` take in all of Unicode here and only ASCII there, sets
inside sets mean different things, `**` and delimiters other than . and / match differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.pdp.syntax import Node, text_of

_ESCAPE = r"\\[.\\/+*?()\[\]{}|^$-]"
_NAMED = r"\[:\^?[a-z]+:\]"
_IN_SET = rf"(?:{_NAMED}|{_ESCAPE}|-(?!-)|&(?!&)|~(?!~)|[^\\\[\]&~-])"
_ATOM = rf"(?:\[\^?{_IN_SET}+\]|{_ESCAPE}|[).]|[^\\\[\](){{}}*+?|^$.])"
_BARE = r"(?:\((?:\?:|(?!\?))|[|^$])"
_TIMES = r"(?:[*+?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})\??"
_REGEX = re.compile(rf"(?:\(\?i\))?(?:{_BARE}|{_ATOM}(?:{_TIMES})?)*", re.DOTALL)
_GLOB = re.compile(r"(?:\*(?!\*)|[^*?\[\]{}\\])*", re.DOTALL)

REGULAR = frozenset({"regex.match", "regex.find_n", "regex.find_all_string_submatch_n"})


def wrong_with(name: str, params: Sequence[Node]) -> str | None:
    """Why a call of a builtin that takes a pattern is refused; None for one that is not, and for other builtins."""
    if name in REGULAR:
        pattern = text_of(params[0]) if params else None
        if pattern is None:
            return "write the pattern as text where it is used"
        if _REGEX.fullmatch(pattern) is None:
            return f"the pattern {pattern} may mean something else to OPA; use [0-9] for \\d, [A-Za-z0-9_] for \\w"
    if name == "glob.match":
        pattern = text_of(params[0]) if params else None
        if pattern is None:
            return "write the pattern as text where it is used, or compare with startswith"
        if _GLOB.fullmatch(pattern) is None or len(params) < 2 or not _usual(params[1]):
            return "only * is understood as OPA does, and only with the delimiters . and /"
    return None


def _usual(delimiters: Node) -> bool:
    if "Null" in delimiters:
        return True
    items = delimiters["Array"]["items"] if "Array" in delimiters else [None]
    return all(item is not None and text_of(item) in (".", "/") for item in items)
