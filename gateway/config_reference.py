"""config/gateway.yaml, made from the sections themselves: every key, its default, one line why.

What has no default stands in a comment, so that the file as it is can be loaded; what belongs to a list or a mapping is
shown on one element. A test holds the file in the repository equal to this text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

from gateway.config_schema import Either, ListOf, MapOf, Of, OrWord, Section
from gateway.config_types import Settings

_HEAD = """\
# Every key of the configuration with its default and why it is there. Lines in comments are keys without a default.
# A file needs only what differs: `tollgate check --example` prints a small one to start from.
# Durations have a unit (ms, s, m, h, d), sizes too (B, KiB, MiB, GiB); paths are relative to the working directory.
# Any key can come from the environment, as in TOLLGATE__admin__listen, elements of lists by their name.
"""
_COMMENT_COLUMN = 58
_SAMPLE = "weather"  # the element that stands for all of a mapping


def reference() -> str:
    """The text of config/gateway.yaml."""
    return _HEAD + "\n" + "\n".join(_section(Settings, "", "")) + "\n"


def _section(section: type[Section], indent: str, mark: str) -> Iterator[str]:
    for item in fields(section):
        yield from _member(item, indent, mark)


def _member(item: Field[Any], indent: str, mark: str) -> Iterator[str]:
    kind, shown, why = item.metadata["kind"], item.metadata["shown"], item.metadata["why"]
    if isinstance(kind, Of):
        inner = mark or ("# " if item.default is None else "")
        lines = list(_section(kind.section, indent + "  ", inner))
        empty = all(line.startswith("#") for line in lines)  # nothing of it has a default: its own line is none either
        yield _line(indent, "# " if empty else inner, f"{item.name}:", why)
        yield from lines
    elif isinstance(kind, MapOf) and isinstance(kind.kind, Of):
        yield _line(indent, mark, f"{item.name}:", why)
        yield _line(indent + "  ", mark, f"{_SAMPLE}:", "")
        yield from _section(kind.kind.section, indent + "    ", mark)
    elif isinstance(kind, ListOf) and isinstance(kind.kind, Of):
        inner = mark or ("# " if item.metadata["example"] else "")
        yield _line(indent, mark, f"{item.name}:" if not inner or mark else f"{item.name}: []", why)
        lines = list(_section(kind.kind.section, indent + "    ", inner))
        lines[0] = lines[0].replace(f"{inner}{indent}    ", f"{inner}{indent}  - ", 1)
        yield from lines
    elif isinstance(kind, OrWord) and isinstance(kind.kind, Either):
        yield _line(indent, mark, f"{item.name}: {shown}", why)
        yield _line(indent, "# ", f"{item.name}:", "or")
        yield from _section(kind.kind.section.section, indent + "  ", "# ")
    else:
        yield _line(indent, mark or ("" if shown else "# "), f"{item.name}: {shown or item.metadata['example']}", why)


def _line(indent: str, mark: str, text: str, why: str) -> str:
    left = f"{mark}{indent}{text}"
    return f"{left.ljust(_COMMENT_COLUMN)}# {why}" if why else left
