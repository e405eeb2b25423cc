"""`tollgate keys`: the gateway's own signing keys, and API keys for callers.

Signing keys lie in `<data_dir>/keys`, one file each; a new one becomes the one that signs at the next start, the former
ones stay published so that what they signed can still be verified. An API key is shown once; its file keeps a hash.
"""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from gateway.cli.output import FAILED, OK, USAGE, Stop, data, json_option, message, table
from gateway.core.canonical import Json
from gateway.identity.apikey import mint
from gateway.log.note import VerifierKey
from gateway.trust.keys import PURPOSES, KeyRing, RingKey

_DATA_DIR = click.option(
    "--data-dir",
    default="var",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The gateway's data directory.",
)
_EPILOG = """\b
Examples:
  tollgate keys list --data-dir var
  tollgate keys new log                            before the first start, to know the vkey in advance
  tollgate keys rotate log                         the next start signs with the new key
  tollgate keys jwks > jwks.json
  tollgate keys new api --id ci --role reader      prints a key once, and its entry for the key file
"""


@click.group("keys", epilog=_EPILOG)
def command() -> None:
    """Signing keys and API keys: new, rotate, list, jwks."""


@command.command("new")
@click.argument("purpose", type=click.Choice([*PURPOSES, "api"]))
@_DATA_DIR
@click.option("--id", "ident", help="API keys: the id, 1 to 63 of a-z, 0-9 and -.")
@click.option("--subject", help="API keys: a name for people; policy sees key:<id>.")
@click.option("--org", help="API keys: the organisation.")
@click.option("--role", "roles", multiple=True, help="API keys: a role; repeatable.")
@click.option("--route", "routes", multiple=True, help="API keys: only on this route; repeatable.")
@click.option("--expires", help="API keys: RFC 3339, as in 2027-01-01T00:00:00Z.")
@json_option
def new_command(
    purpose: str,
    data_dir: Path,
    ident: str | None,
    subject: str | None,
    org: str | None,
    roles: tuple[str, ...],
    routes: tuple[str, ...],
    expires: str | None,
    as_json: bool,
) -> int:
    """Make a signing key for PURPOSE, or an API key."""
    if purpose == "api":
        entry = {"subject": subject, "org": org, "roles": list(roles), "routes": list(routes), "expires": expires}
        return _new_api_key(ident, {name: value for name, value in entry.items() if value}, as_json)
    if any([ident, subject, org, roles, routes, expires]):
        raise Stop("--id, --subject, --org, --role, --route and --expires are for `keys new api`", USAGE)
    ring = KeyRing(data_dir / "keys")
    if ring.current(purpose) is not None:
        raise Stop(f"there is a {purpose} key; `tollgate keys rotate {purpose}` makes the next one", FAILED)
    return _made(ring.new(purpose), data_dir, as_json)


@command.command("rotate")
@click.argument("purpose", type=click.Choice(PURPOSES))
@_DATA_DIR
@json_option
def rotate_command(purpose: str, data_dir: Path, as_json: bool) -> int:
    """Make the next signing key for PURPOSE; the former one stays published."""
    ring = KeyRing(data_dir / "keys")
    if ring.current(purpose) is None:
        raise Stop(f"there is no {purpose} key yet; `tollgate keys new {purpose}` makes the first one", FAILED)
    made = ring.new(purpose)
    message("the next start of the gateway signs with it")
    return _made(made, data_dir, as_json)


@command.command("list")
@_DATA_DIR
@json_option
def list_command(data_dir: Path, as_json: bool) -> int:
    """List signing keys and, for the log, the vkey that verifiers are given."""
    if not (data_dir / "keys").is_dir():
        raise Stop(f"{data_dir} has no keys; the first start makes them, or `tollgate keys new log`")
    ring = KeyRing(data_dir / "keys")
    found = []
    for key in ring.list():
        current = ring.current(key.purpose)
        found.append(_described(key, data_dir) | {"current": current is not None and current.kid == key.kid})
    rows = [(str(key["purpose"]), str(key["kid"]), "signs" if key["current"] else "retired", str(key.get("vkey", "")))
            for key in found]  # fmt: skip
    data({"keys": list(found)}, table([("PURPOSE", "KID", "STATE", "VKEY"), *rows]), as_json)
    return OK


@command.command("jwks")
@_DATA_DIR
@json_option
def jwks_command(data_dir: Path, as_json: bool) -> int:
    """Print the public keys that the gateway publishes, as a JWK set."""
    data(KeyRing(data_dir / "keys").jwks(), "", True)
    return OK


def _made(key: RingKey, data_dir: Path, as_json: bool) -> int:
    described = _described(key, data_dir)
    text = "\n".join(f"{name}: {value}" for name, value in described.items())
    data(described, text, as_json)
    return OK


def _described(key: RingKey, data_dir: Path) -> dict[str, Json]:
    found: dict[str, Json] = {"purpose": key.purpose, "kid": key.kid}
    origin = data_dir / "log" / "origin"
    if key.purpose == "log" and origin.is_file():
        found["vkey"] = str(VerifierKey.of(origin.read_text("utf-8").strip(), key.private))
    return found


def _new_api_key(ident: str | None, members: dict[str, object], as_json: bool) -> int:
    if ident is None:
        raise Stop("an API key needs --id: it stands in the key and in records as key:<id>", USAGE)
    try:
        secret, digest = mint(ident)
    except ValueError as error:
        raise Stop(str(error), USAGE) from None
    entry = {"id": ident, "sha256": digest, **members}
    if as_json:
        data({"key": secret, "entry": entry}, "", True)  # type: ignore[dict-item]  # the entry is plain text and lists
        return OK
    message("the key is shown this once; give it to its caller, who sends it as `Authorization: Bearer`")
    data(None, secret, False)
    message("and this is its entry for the file that trust.api_keys names:")
    # JSON is YAML, and quoted: a hash of digits and an `e` is a number to some readers
    lines = [f"{name}: {orjson.dumps(value).decode()}" for name, value in entry.items()]
    data(None, "- " + "\n  ".join(lines), False)
    return OK
