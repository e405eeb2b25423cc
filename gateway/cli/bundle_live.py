"""`tollgate bundle push|activate|rollback|list`: what a running gateway decides by, asked and changed on its plane.

What is put in force takes the place of what was looked at: the ETag goes along, and where another bundle became active
meanwhile nothing changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.assembly_bundles import read_tarball
from gateway.cli.output import OK, USAGE, Stop, data, json_option, table
from gateway.cli.remote import UPLOAD_SECONDS, admin_options, get, post, upload
from gateway.core.canonical import Json

_NAME = click.option("--name", default="tollgate", show_default=True, help="The bundle's, as policy.name says.")
_CONFIGURED = "configured"


@click.command("push")
@click.argument("file", type=click.Path(path_type=Path))
@_NAME
@click.option("--activate", is_flag=True, help="Put it in force as well.")
@admin_options
@json_option
def push_command(file: Path, name: str, activate: bool, admin: str, token_file: Path, as_json: bool) -> int:
    """Push a bundle FILE: it is verified by every rule and kept. Exit code 4 where a rule does not hold."""
    query = {"name": name, **({"activate": "true"} if activate else {})}
    etag = _etag(admin, token_file, name) if activate else ""
    found = upload(admin, token_file, f"/api/v1/bundles?{urlencode(query)}", read_tarball(file), etag=etag)
    data(found, _said(found), as_json)
    return OK


@click.command("activate")
@click.argument("which")
@_NAME
@admin_options
@json_option
def activate_command(which: str, name: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Put a bundle that was pushed in force: WHICH is its digest or the beginning of it, its number, its revision."""
    shown = get(admin, token_file, f"/api/v1/bundles/{name}")
    wanted: Json = {"digest": _chosen(shown, which)}
    found = post(
        admin, token_file, f"/api/v1/bundles/{name}/activate", wanted, etag=shown["etag"], seconds=UPLOAD_SECONDS
    )
    data(found, _said(found), as_json)
    return OK


@click.command("rollback")
@_NAME
@click.option("--to", "which", help="Another one than the one before: digest, number or revision, or `configured`.")
@admin_options
@json_option
def rollback_command(name: str, which: str | None, admin: str, token_file: Path, as_json: bool) -> int:
    """Go back to the bundle before: in force at once, and recorded."""
    shown = get(admin, token_file, f"/api/v1/bundles/{name}")
    wanted: Json = {"digest": _chosen(shown, which)} if which is not None else {}
    found = post(
        admin, token_file, f"/api/v1/bundles/{name}/rollback", wanted, etag=shown["etag"], seconds=UPLOAD_SECONDS
    )
    data(found, _said(found), as_json)
    return OK


@click.command("list")
@click.option("--name", help="Only this one, with all that is kept of it.")
@admin_options
@json_option
def list_command(name: str | None, admin: str, token_file: Path, as_json: bool) -> int:
    """List bundles by name, or all that is kept under one."""
    if name is None:
        found = get(admin, token_file, "/api/v1/bundles")
        rows = [("NAME", "ACTIVE", "REVISION", "NUMBER", "SINCE"), *map(_name_row, found["bundles"])]
        data(found, table(rows), as_json)
        return OK
    found = get(admin, token_file, f"/api/v1/bundles/{name}")
    active, previous = found["state"]["active"], found["state"]["previous"]
    rows = [("", "NUMBER", "REVISION", "SIGNER", "PUSHED", "DIGEST")]
    for item in found["kept"]:
        mark = "active" if item["digest"] == active else "before" if item["digest"] == previous else ""
        rows.append((mark, str(item["number"]), item["revision"], item["signer"], item["pushed"], item["digest"]))
    text = table(rows) + ("\n\nthe policy that the configuration names is in force" if active == _CONFIGURED else "")
    data(found, text, as_json)
    return OK


def _etag(admin: str, token_file: Path, name: str) -> str:
    """Of what is active; nothing is, under a name that nobody pushed to."""
    for item in get(admin, token_file, "/api/v1/bundles")["bundles"]:
        if item["name"] == name:
            return str(item["etag"])
    return f'"{_CONFIGURED}"'


def _chosen(shown: dict[str, Any], which: str) -> str:
    """The digest that is meant. Raises Stop."""
    if which == _CONFIGURED:
        return which
    found = {
        item["digest"]
        for item in shown["kept"]
        if which in (item["digest"], item["revision"], str(item["number"]))
        or (len(which) >= 6 and item["digest"].removeprefix("sha256:").startswith(which.removeprefix("sha256:")))
    }
    if len(found) != 1:
        raise Stop(
            f"{which} is {'no' if not found else 'more than one'} bundle of {shown['name']}; name its digest", USAGE
        )
    return str(found.pop())


def _said(found: dict[str, Any]) -> str:
    state, pushed = found["state"], found.get("pushed")
    if pushed is not None:
        return f"pushed {pushed['digest']}, number {pushed['number']}; {state['active']} is active"
    return f"{found['name']}: {state['active']} is active since {state.get('since', '')}"


def _name_row(item: dict[str, Any]) -> tuple[str, ...]:
    active = item.get("active") or {}
    own = item["name"] + ("*" if item["own"] else "")
    number = str(active.get("number", ""))
    return own, item["state"]["active"], active.get("revision", ""), number, item["state"].get("since", "")
