"""`tollgate shadow`: what the engine beside the one in force would have decided otherwise.

A running gateway's admin plane is asked. Nothing here changes anything: what a shadow says is never obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.cli.output import OK, data, json_option, table
from gateway.cli.remote import admin_options, get
from gateway.core.shadow import KINDS, PAGE_MOST

_EPILOG = """\b
Examples:
  tollgate shadow list                          what differs, the newest first, and how often
  tollgate shadow list --kind allow_to_deny     what the candidate would refuse
  tollgate shadow list --all --json             everything that is kept, for a script
"""


@click.group("shadow", epilog=_EPILOG)
def command() -> None:
    """The engine beside the one in force (policy.shadow): list what it says differently."""


@command.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only those that differ in this.")
@click.option("--subject", help="Only this caller's, by its subject.id.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, PAGE_MOST), help="How many.")
@click.option("--all", "everything", is_flag=True, help="All that is kept.")
@admin_options
@json_option
def list_command(
    kind: str | None, subject: str | None, limit: int, everything: bool, admin: str, token_file: Path, as_json: bool
) -> int:
    """List differences, newest first; equal ones are one line, counted."""
    wanted = {name: value for name, value in (("kind", kind), ("subject", subject)) if value is not None}
    wanted["limit"] = str(PAGE_MOST if everything else limit)
    found = get(admin, token_file, f"/api/v1/shadow?{urlencode(wanted)}")
    page = found
    while everything and page["next"] is not None:
        page = get(admin, token_file, f"/api/v1/shadow?{urlencode(wanted | {'cursor': page['next']})}")
        found["differences"] += page["differences"]
        found["next"] = page["next"]
    data(found, _text(found), as_json)
    return OK


def _text(found: dict[str, Any]) -> str:
    shadow, totals = found["shadow"], found["totals"]
    who = f"{shadow['engine']} {shadow['revision']}" if shadow else "none is configured (policy.shadow)"
    lines = [f"shadow: {who}", ", ".join(f"{name} {count}" for name, count in totals.items())]
    if shadow and shadow.get("last_fault"):
        lines.append(f"its last fault: {shadow['last_fault']}")
    if found["differences"]:
        head = ("COUNT", "LAST", "ENFORCED", "SHADOW", "SUBJECT", "ACTION", "RESOURCE", "EXCHANGE")
        lines += ["", table([head, *map(_row, found["differences"])])]
    return "\n".join(lines)


def _row(item: dict[str, Any]) -> Sequence[str]:
    return (
        str(item["count"]), item["last"], _decided(item["enforced"]), _decided(item["shadow"]), item["subject"],
        item["action"], item["resource"]["id"], item.get("exchange", ""),
    )  # fmt: skip


def _decided(decision: dict[str, Any]) -> str:
    rule = f" ({decision['rule']})" if decision["rule"] else ""
    owed = ", ".join(str(item["type"]) for item in decision["obligations"])
    return f"{decision['effect']}{rule}" + (f" with {owed}" if owed else "")
