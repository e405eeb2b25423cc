"""`tollgate agents`: what upstreams describe and what is thought of it; approvals, and the kill switch.

A running gateway's admin plane is asked. What is approved is what was shown: the digest goes along, and where the
upstream has moved on meanwhile nothing is approved. A name is an upstream's (weather), something it describes
(weather/get_forecast), or a caller's subject.id (agent:idp/planner, key:ci).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from gateway.cli.output import FAILED, OK, USAGE, Stop, data, json_option, message, table
from gateway.cli.remote import admin_options, get, post
from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.trust.keys import KeyRing
from gateway.trust.manifests import sign_manifest

MEMBERS = {"tool": "tools", "prompt": "prompts", "resource": "resources", "resource_template": "resourceTemplates"}
KINDS = tuple(MEMBERS)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EPILOG = """\b
Examples:
  tollgate agents list                                 upstreams, how they stand, and who is blocked
  tollgate agents list --standing quarantined          what waits for a decision
  tollgate agents show weather/get_forecast            what changed since it was approved
  tollgate agents approve weather/get_forecast         shows it and asks; --digest sha256:... does not ask
  tollgate agents approve weather --all --yes
  tollgate agents manifest weather --data-dir var      signed, for `tools.manifest` of other gateways
  tollgate agents block weather --why "it leaks"       its open streams end within a second
  tollgate agents block agent:idp/planner              a caller, by its subject.id
"""


def _kind(command: _Command) -> _Command:
    return click.option("--kind", type=click.Choice(KINDS), default="tool", show_default=True, help="What it is.")(
        command
    )


@click.group("agents", epilog=_EPILOG)
def command() -> None:
    """Agents and tools: list, show, approve, block, unblock, manifest."""


@command.command("list")
@click.option("--standing", type=click.Choice(["verified", "unverified", "quarantined", "blocked"]), help="Only these.")
@click.option("--upstream", help="Only what this one describes.")
@admin_options
@json_option
def list_command(standing: str | None, upstream: str | None, admin: str, token_file: Path, as_json: bool) -> int:
    """List agents; with --standing or --upstream, what they describe."""
    wanted = {name: value for name, value in (("standing", standing), ("upstream", upstream)) if value}
    if wanted:
        found = get(admin, token_file, f"/api/v1/tools?{urlencode(wanted)}")
        data(found, table([("STANDING", "KIND", "NAME", "BY", "WHY"), *map(_item_row, found["tools"])]), as_json)
        return OK
    found = get(admin, token_file, "/api/v1/agents")
    rows = [("STANDING", "AGENT", "PIN", "DESCRIBES", "PROBLEM"), *map(_agent_row, found["agents"])]
    text = table(rows)
    if found["callers"]:
        callers = [(item["name"], item.get("changed", ""), item.get("why", "")) for item in found["callers"]]
        text += "\n\n" + table([("BLOCKED CALLER", "SINCE", "WHY"), *callers])
    data(found, text, as_json)
    return OK


@command.command("show")
@click.argument("name")
@_kind
@admin_options
@json_option
def show_command(name: str, kind: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Show an agent, or one thing it describes with what changed since it was approved."""
    part = _part(name, kind)
    if part is not None:
        found = get(admin, token_file, f"/api/v1/tools/item?{urlencode(part)}")
        data(found, _text(found), as_json)
        return OK
    found = get(admin, token_file, f"/api/v1/agents/item?{urlencode({'name': name})}")
    members = [(key, str(value)) for key, value in found.items() if key not in ("items", "etag")]
    text = table(members)
    if found.get("items"):
        text += "\n\n" + table([("STANDING", "KIND", "NAME", "BY", "WHY"), *map(_item_row, found["items"])])
    data(found, text, as_json)
    return OK


@command.command("approve")
@click.argument("name")
@_kind
@click.option("--all", "everything", is_flag=True, help="All that the agent describes and that is not verified.")
@click.option("--digest", help="Approve exactly this: what was seen, or the former one to keep it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@admin_options
@json_option
def approve_command(
    name: str, kind: str, everything: bool, digest: str | None, yes: bool, admin: str, token_file: Path, as_json: bool
) -> int:
    """Approve what was seen. What changed is shown first; --yes or --digest say so without being asked."""
    part = _part(name, kind)
    if (part is None) != everything or (everything and digest is not None):
        raise Stop("name one thing as upstream/name, or an upstream with --all", USAGE)
    items = (
        [get(admin, token_file, f"/api/v1/tools/item?{urlencode(part)}")] if part else _open(admin, token_file, name)
    )
    if not items:
        message(f"nothing that {name} describes waits for approval")
        data({"approved": []}, "", as_json)
        return OK
    if digest is None:
        for item in items:
            message(_text(item))
        _confirm(f"Approve {'this' if len(items) == 1 else f'these {len(items)}'}?", yes)
    wanted: list[Json] = [
        {key: item[key] for key in ("upstream", "kind", "name")} | {"digest": digest or item.get("digest", "")}
        for item in items
    ]
    found = post(admin, token_file, "/api/v1/tools/approve", {"items": wanted})
    data(
        found,
        table([("APPROVED", "DIGEST"), *((_name(item), item["approved"]) for item in found["approved"])]),
        as_json,
    )
    return OK


@command.command("block")
@click.argument("name")
@_kind
@click.option("--why", default="", help="For the record, and for whoever looks.")
@admin_options
@json_option
def block_command(name: str, kind: str, why: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Block an agent, something it describes, or a caller: nothing reaches it any more, and its open streams end."""
    return _switch("block", name, kind, why, admin, token_file, as_json)


@command.command("unblock")
@click.argument("name")
@_kind
@admin_options
@json_option
def unblock_command(name: str, kind: str, admin: str, token_file: Path, as_json: bool) -> int:
    """Lift a block: what was thought of it before holds again."""
    return _switch("unblock", name, kind, "", admin, token_file, as_json)


@command.command("manifest")
@click.argument("upstream")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Sign with this gateway's own key for manifests.")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="What the private key is encrypted under.")
@click.option("--expires", metavar="TIME", help="When it ends, RFC 3339, as in 2027-01-01T00:00:00Z.")
@admin_options
@json_option
def manifest_command(
    upstream: str,
    data_dir: Path | None,
    passphrase_file: Path | None,
    expires: str | None,
    admin: str,
    token_file: Path,
    as_json: bool,
) -> int:
    """Print what is approved of an agent as a manifest, signed with --data-dir, for other gateways to believe."""
    wanted = urlencode({"upstream": upstream, "standing": "verified"})
    made: dict[str, Json] = {"expires": expires} if expires else {}
    for item in get(admin, token_file, f"/api/v1/tools?{wanted}")["tools"]:
        part = {key: item[key] for key in ("upstream", "kind", "name")}
        found = get(admin, token_file, f"/api/v1/tools/item?{urlencode(part)}")
        listed = made.setdefault(MEMBERS[item["kind"]], [])
        if isinstance(listed, list):
            listed.append(found["approved_document"])
    if not made.keys() - {"expires"}:
        raise Stop(f"nothing that {upstream} describes is approved")
    if data_dir is not None:
        passphrase = passphrase_file.read_bytes().strip(b"\r\n") if passphrase_file is not None else None
        key = KeyRing(data_dir / "keys", passphrase=passphrase).ensure("manifests")
        try:
            made = sign_manifest(made, key.signer())
        except Malformed as error:
            raise Stop(str(error), USAGE) from None
        message(f"signed with key {key.kid}; `tollgate keys jwks` prints its public half for trust.signers")
    click.echo(json.dumps(made))
    return OK


def _switch(verb: str, name: str, kind: str, why: str, admin: str, token_file: Path, as_json: bool) -> int:
    part = _part(name, kind)
    wanted: dict[str, Json] = {**part} if part is not None else {"agent": name}
    if why:
        wanted["why"] = why
    found = post(admin, token_file, f"/api/v1/{'agents' if part is None else 'tools'}/{verb}", wanted)
    item = found["item"]
    data(found, f"{verb}ed {item['kind']} {_name(item)}", as_json)
    return OK


def _part(name: str, kind: str) -> dict[str, str] | None:
    """What an upstream describes, of `upstream/name`; None for an agent or a caller, whose id has a colon first."""
    upstream, slash, rest = name.partition("/")
    if not slash or ":" in upstream:
        return None
    return {"upstream": upstream, "kind": kind, "name": rest}


def _open(admin: str, token_file: Path, upstream: str) -> list[dict[str, Any]]:
    """All of an upstream's that could be approved, each whole."""
    found = get(admin, token_file, f"/api/v1/tools?{urlencode({'upstream': upstream})}")["tools"]
    waiting = [item for item in found if item["standing"] in ("unverified", "quarantined") and item.get("digest")]
    keys = ("upstream", "kind", "name")
    return [
        get(admin, token_file, f"/api/v1/tools/item?{urlencode({key: item[key] for key in keys})}") for item in waiting
    ]


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stop("nobody is there to ask: say --yes, or --digest with the digest that was shown", USAGE)
    if not click.confirm(question, err=True):
        raise Stop("nothing was approved", FAILED)


def _text(item: dict[str, Any]) -> str:
    lines = [f"{item['kind']} {_name(item)}: {item['standing']}" + (f", {item['why']}" if item.get("why") else "")]
    lines += [
        f"  {key}: {item[key]}" for key in ("digest", "approved", "by", "seen", "changed", "pin") if item.get(key)
    ]
    return "\n".join([*lines, "", item["diff"] or item["text"] or "it is as it was approved"])


def _name(item: dict[str, Any]) -> str:
    return f"{item['upstream']}/{item['name']}" if item.get("upstream") and item["kind"] in KINDS else str(item["name"])


def _item_row(item: dict[str, Any]) -> Sequence[str]:
    return item["standing"], item["kind"], _name(item), item.get("by", ""), item.get("why", "")


def _agent_row(item: dict[str, Any]) -> Sequence[str]:
    counted = ", ".join(f"{count} {name}" for name, count in item["items"].items())
    return item["standing"], item["name"], item.get("pin", ""), counted, item.get("problem") or item.get("why", "")
