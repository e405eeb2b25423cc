"""`tollgate explain`: what happened to one request, by the id its answer carried in X-Request-Id.

A running gateway is asked; with `--data-dir` the log's files are read instead, beside a running gateway or after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.logs import log_folder
from gateway.cli.output import OK, USAGE, Stop, data, json_option
from gateway.cli.remote import admin_options, get
from gateway.control.explain import explain
from gateway.log.export import tail

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPILOG = """\b
Examples:
  tollgate explain 01990c2e-7b1a-7cc3-98c4-dc0c0c07398f
  tollgate explain 01990c2e-... --data-dir var          without a running gateway
"""


@click.command("explain", epilog=_EPILOG)
@click.argument("exchange_id")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Read the log of this data directory.")
@admin_options
@json_option
def command(exchange_id: str, data_dir: Path | None, admin: str, token_file: Path, as_json: bool) -> int:
    """Explain one exchange: who asked what, what policy said and why, and what came of it."""
    ident = exchange_id.lower()
    if _ID.fullmatch(ident) is None:
        raise Stop(f"{exchange_id} is no exchange id: it is the UUID in the answer's X-Request-Id", USAGE)
    if data_dir is not None:
        document = _from_files(log_folder(data_dir), ident)
    else:
        document = get(admin, token_file, f"/api/v1/decisions/{ident}")
    data(document, _text(document), as_json)
    return OK


def _from_files(folder: Path, ident: str) -> dict[str, Any]:
    mark = ident.encode()
    found = [item.record() for item in tail(folder, 0) if mark in item.entry]
    records = [record for record in found if record.get("exchange") == ident]
    if not records:
        raise Stop(f"no record of {ident} in {folder}")
    return dict(explain(records))


def _text(document: Mapping[str, Any]) -> str:
    lines = [str(document["summary"]), ""]
    for step in document["steps"]:
        lines.append(f"  {step['seq']}  {step['time']}  {step['kind']}: {step['text']}")
    for name in ("decision", "limits", "upstream", "usage", "request"):
        if document.get(name):
            lines.append(f"  {name}: {_flat(document[name])}")
    return "\n".join(lines)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_flat(item) for item in value)
    return str(value)
