"""What is hidden of an answer: places in a JSON document, named by paths.

A path is a JSON Pointer (RFC 6901) in which the step `*` stands for every element of a list and every member of an
object: `/content/*/text`. Everything else is refused: no `**`, no `$.a[0]`, no empty step, not the whole document.
1. A name is compared without regard to case, since some readers do. 2. What stands at a place is replaced by a text, so
that lists keep their length and objects their members. 3. A place that is not there is nothing to hide.
It must never raise for a document, whatever its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from gateway.core.canonical import Json
from gateway.core.reasons import Malformed

HIDDEN: Final = "[redacted]"
MOST_PATHS: Final = 64  # of one decision: the record has them
MOST_CHARACTERS: Final = 256  # of a path
MOST_STEPS: Final = 16

Tree: TypeAlias = "Mapping[str, Tree]"
"""What follows a step, by its folded name; nothing follows where the value itself is hidden."""

_ESCAPE: Final = re.compile(r"~(?![01])")


def tree_of(paths: Iterable[str]) -> Tree:
    """Raises Malformed for what is no path."""
    root: dict[str, Tree] = {}
    for count, path in enumerate(paths):
        if count >= MOST_PATHS:
            raise Malformed(f"redact: more than {MOST_PATHS} paths")
        _grow(root, steps(path))
    return root


def steps(path: str) -> list[str]:
    """The steps of a path, folded. Raises Malformed."""
    where = f"redact: path {path[:100]!r}"
    if len(path) > MOST_CHARACTERS or not path.startswith("/"):
        raise Malformed(f"{where} is not a JSON Pointer of at most {MOST_CHARACTERS} characters (/content/*/text)")
    if _ESCAPE.search(path) is not None:
        raise Malformed(f"{where}: ~ is written ~0, / in a name ~1")
    found = path[1:].split("/")
    if len(found) > MOST_STEPS:
        raise Malformed(f"{where} has more than {MOST_STEPS} steps")
    for step in found:
        if not step:
            raise Malformed(f"{where} has an empty step")
        if "*" in step and step != "*":
            raise Malformed(f"{where}: a star stands for a whole step")
    return [step.replace("~1", "/").replace("~0", "~").casefold() for step in found]


def below(tree: Tree, *roots: tuple[str, ...]) -> Tree:
    """The same places, looked for below each of these members of a document."""
    found: dict[str, Tree] = {}
    for root in roots:
        if not root:
            return tree
        at = found
        for name in root[:-1]:
            deeper = at[name] = dict(at.get(name, {}))
            at = deeper
        at[root[-1]] = tree
    return found


def hide(value: Json, tree: Tree) -> int:
    """Hides in place what stands at the tree's places; how many there were."""
    count = 0
    if isinstance(value, dict):
        for name, item in value.items():
            folded = name.casefold()  # 1
            for step in (folded, "*") if folded != "*" else ("*",):
                rest = tree.get(step)
                if rest is not None:
                    if not rest:
                        value[name] = HIDDEN  # 2
                        count += 1
                        break
                    count += hide(item, rest)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            for step in (str(place), "*"):
                rest = tree.get(step)
                if rest is not None:
                    if not rest:
                        value[place] = HIDDEN
                        count += 1
                        break
                    count += hide(item, rest)
    return count


def _grow(tree: dict[str, Tree], path: list[str]) -> None:
    """A place that is hidden hides what is in it: a longer path adds nothing, a shorter one takes its place."""
    at = tree
    for step in path[:-1]:
        rest = at.get(step)
        if rest is None:
            rest = at[step] = {}
        elif not rest:
            return
        if not isinstance(rest, dict):
            raise TypeError("a tree that is grown is a dictionary")
        at = rest
    at[path[-1]] = {}
