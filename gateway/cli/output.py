"""What every command does the same way: data to stdout, messages to stderr, `--json`, and the exit codes.

0 ok, 1 failed, 2 usage or configuration, 3 denied, 4 cannot be verified. A command returns its code; what stops it
raises `Stop`, or an exception that main.py knows. Text from records is made harmless for a terminal here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
import orjson

from gateway.core.canonical import Json

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
DENIED: Final = 3
UNVERIFIED: Final = 4

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Stop(Exception):
    """Ends a command: `args[0]` says what is wrong and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def json_option(command: _Command) -> _Command:
    """`--json` on a command; its function gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")(command)


def data(document: Json, text: str, as_json: bool) -> None:
    """The command's result: the document as JSON, or the text."""
    if as_json:
        json_line(document)
    else:
        click.echo(printable(text))


def json_line(document: Json) -> None:
    click.echo(orjson.dumps(document).decode())


def message(text: str) -> None:
    """Something for the person, not for the pipe."""
    click.echo(printable(text), err=True)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the last one is not padded."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*padded, row[-1]]).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """Control characters and text reversers escaped: records hold what callers wrote, and a terminal obeys."""
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode() for mark in text
    )


def to_stdout(lines: Any) -> None:
    """Bytes as they are, for exports and proofs."""
    stream = sys.stdout.buffer
    for line in lines:
        stream.write(line)
    stream.flush()
