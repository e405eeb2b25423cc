"""`tollgate upstreams`: where calls go, how that does, and breakers that somebody opens or closes.

A running gateway's admin plane is asked. An upstream that is opened gets no calls, one that is closed gets all of them,
whatever it answers, until `auto` lets its breaker go; that holds over reloads and restarts, and is a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from gateway.cli.output import OK, data, json_option, table
from gateway.cli.remote import admin_options, get, post
from gateway.core.canonical import Json

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EPILOG = """\b
Examples:
  tollgate upstreams list                              breakers and addresses of every upstream
  tollgate upstreams open weather --why maintenance    no call goes there from now on: 503 at once
  tollgate upstreams close weather                     every call goes there, whatever it answers
  tollgate upstreams auto weather                      its breaker decides again
"""


def _holding(command: _Command) -> _Command:
    """What open, close and auto take."""
    command = admin_options(json_option(command))
    command = click.option("--why", default="", help="For the record.")(command)
    return click.argument("name")(command)


@click.group("upstreams", epilog=_EPILOG)
def command() -> None:
    """Upstreams: list them with their breakers and addresses; open, close, auto."""


@command.command("list")
@admin_options
@json_option
def list_command(admin: str, token_file: Path, as_json: bool) -> int:
    """List upstreams, how their breakers stand, and which addresses are left out."""
    found = get(admin, token_file, "/api/v1/upstreams")
    rows: list[Sequence[str]] = [("UPSTREAM", "BREAKER", "HELD", "WHY", "URL")]
    for item in found["upstreams"]:
        rows += _rows(item)
    data(found, table(rows), as_json)
    return OK


@command.command("open")
@_holding
def open_command(name: str, why: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Send an upstream no calls until its breaker is let go."""
    return _hold("open", name, why, admin, token_file, as_json)


@command.command("close")
@_holding
def close_command(name: str, why: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Send an upstream every call, whatever it answers, until its breaker is let go."""
    return _hold("close", name, why, admin, token_file, as_json)


@command.command("auto")
@_holding
def auto_command(name: str, why: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Let an upstream's breaker decide again; it begins closed."""
    return _hold("auto", name, why, admin, token_file, as_json)


def _hold(state: str, name: str, why: str, admin: str, token_file: Path, as_json: bool) -> int:
    wanted: dict[str, Json] = {"state": state, **({"why": why} if why else {})}
    found = post(admin, token_file, f"/api/v1/upstreams/{quote(name, safe='')}/breaker", wanted)
    breaker = found["upstream"]["breaker"]
    held = "" if breaker["hold"] == "auto" else ", until `tollgate upstreams auto` lets it go"
    data(found, f"{name}: {breaker['state']}{held}", as_json)
    return OK


def _rows(item: dict[str, Any]) -> list[Sequence[str]]:
    breaker = item.get("breaker")
    rows: list[Sequence[str]] = [(item["name"], *_states(breaker), item["url"])]
    rows += [(f"  {tool['tool']}", *_states(tool), "") for tool in item.get("tools", [])]
    for address in item.get("addresses", []):
        busy = f"{address['in_flight']} under way"
        rows.append(("", address["state"], "", address.get("why", busy), address["address"]))
    return rows


def _states(breaker: dict[str, Any] | None) -> tuple[str, str, str]:
    if breaker is None:
        return "-", "", ""
    held = "" if breaker["hold"] == "auto" else str(breaker["hold"])
    return str(breaker["state"]), held, "" if breaker["state"] == "closed" and not held else str(breaker.get("why", ""))
