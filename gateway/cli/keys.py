"""`tollgate keys`: the gateway's own signing keys, and API keys for callers.

Signing keys lie in `<data_dir>/keys`, one file each, and a table beside them says which signs; a running gateway
follows the table within a second. Nothing here prints a private key. An API key is shown once; its file keeps a hash.
"""

from __future__ import annotations

import os
import pwd
import re
import time
from pathlib import Path

import click
import orjson

from gateway import config
from gateway.assembly_keys import make_ring, open_vault
from gateway.cli.doctor_checks import running
from gateway.cli.output import OK, USAGE, Stop, data, json_option, message, table
from gateway.core.canonical import Json
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp
from gateway.identity.apikey import mint
from gateway.log.note import VerifierKey
from gateway.trust.keys import PURPOSES, KeyRing, RingKey, State
from gateway.trust.pem import jwks_of

_DATA_DIR = click.option(
    "--data-dir",
    default="var",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The gateway's data directory.",
)
_PASSPHRASE = click.option(
    "--passphrase-file",
    envvar="TOLLGATE_KEYS_PASSPHRASE_FILE",
    type=click.Path(path_type=Path),
    help="The file of the passphrase that private keys are encrypted under, as keys.passphrase names it.",
)
_CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="The configuration, for its data_dir, keys and vault; instead of --data-dir and --passphrase-file.",
)
_EPILOG = """\b
Examples:
  tollgate keys list --data-dir var
  tollgate keys new log                            before the first start, to know the vkey in advance
  tollgate keys new cards                          with a key there already: the next one, published, not signing yet
  tollgate keys rotate cards --overlap 7d          the next one signs, the former stays published for a week
  tollgate keys revoke cards XRdLCVSJAqIvBtcC      for a key that somebody else may have
  tollgate keys jwks > jwks.json
  tollgate keys encrypt --passphrase-file /run/secrets/keys
  tollgate keys new api --id ci --role reader      prints a key once, and its entry for the key file
"""


@click.group("keys", epilog=_EPILOG)
def command() -> None:
    """Signing keys and API keys: new, rotate, revoke, list, jwks, encrypt."""


@command.command("new")
@click.argument("purpose", type=click.Choice([*PURPOSES, "api"]))
@_DATA_DIR
@_PASSPHRASE
@_CONFIG
@click.option("--id", "ident", help="API keys: the id, 1 to 63 of a-z, 0-9 and -.")
@click.option("--subject", help="API keys: a name for people; policy sees key:<id>.")
@click.option("--org", help="API keys: the organisation.")
@click.option("--team", help="API keys: the team within it.")
@click.option("--role", "roles", multiple=True, help="API keys: a role; repeatable.")
@click.option("--route", "routes", multiple=True, help="API keys: only on this route; repeatable.")
@click.option("--expires", help="API keys: RFC 3339, as in 2027-01-01T00:00:00Z.")
@json_option
def new_command(
    purpose: str,
    data_dir: Path,
    passphrase_file: Path | None,
    config_file: Path | None,
    ident: str | None,
    subject: str | None,
    org: str | None,
    team: str | None,
    roles: tuple[str, ...],
    routes: tuple[str, ...],
    expires: str | None,
    as_json: bool,
) -> int:
    """Make a signing key for PURPOSE, or an API key. The first key of a purpose signs; a later one is the next: it is
    published, so that verifiers know it, and signs once `keys rotate` puts it in force."""
    if purpose == "api":
        entry = {"subject": subject, "org": org, "team": team, "roles": list(roles), "routes": list(routes)}
        entry["expires"] = expires
        return _new_api_key(ident, {name: value for name, value in entry.items() if value}, as_json)
    if any([ident, subject, org, team, roles, routes, expires]):
        raise Stop("--id, --subject, --org, --team, --role, --route and --expires are for `keys new api`", USAGE)
    ring, settings = _ring(data_dir, passphrase_file, config_file)
    made = ring.new(purpose, by=_operator())
    if ring.state(made) is State.NEXT:
        message(f"it is published and does not sign yet: `tollgate keys rotate {purpose}` when verifiers know it")
    _say_when(settings.data_dir)
    return _made(made, settings.data_dir, as_json)


@command.command("rotate")
@click.argument("purpose", type=click.Choice(PURPOSES))
@click.option("--overlap", help="How long the former key stays published, as in 12h; default 7d, or keys.overlap.")
@_DATA_DIR
@_PASSPHRASE
@_CONFIG
@json_option
def rotate_command(
    purpose: str,
    overlap: str | None,
    data_dir: Path,
    passphrase_file: Path | None,
    config_file: Path | None,
    as_json: bool,
) -> int:
    """Let the next key for PURPOSE sign (made now if there is none); the former one stays published for a while, and
    what it signed verifies for ever."""
    if overlap is not None and re.fullmatch(config.DURATION, overlap) is None:
        raise Stop(f"--overlap {overlap} is no duration: write it as in 12h or 7d", USAGE)
    ring, settings = _ring(data_dir, passphrase_file, config_file)
    seconds = config.parse_duration(overlap) if overlap is not None else settings.keys.overlap
    if ring.current(purpose) is not None and ring.next(purpose) is None:
        message("there was no next key: verifiers that keep a copy of the old key set do not know this one yet")
    made = ring.rotate(purpose, by=_operator(), overlap_s=int(seconds))
    _say_when(settings.data_dir)
    return _made(made, settings.data_dir, as_json)


@command.command("revoke")
@click.argument("purpose", type=click.Choice(PURPOSES))
@click.argument("kid")
@_DATA_DIR
@_PASSPHRASE
@_CONFIG
@json_option
def revoke_command(
    purpose: str, kid: str, data_dir: Path, passphrase_file: Path | None, config_file: Path | None, as_json: bool
) -> int:
    """Take a key out that somebody else may have: it is published and trusted no more. If it signs, the next one does
    from now on (made now if there is none)."""
    ring, settings = _ring(data_dir, passphrase_file, config_file)
    signing = ring.revoke(purpose, kid, by=_operator())
    message(f"{purpose} {kid} is revoked; {signing.kid} signs")
    _say_when(settings.data_dir)
    return _made(signing, settings.data_dir, as_json)


@command.command("encrypt")
@_DATA_DIR
@_PASSPHRASE
@json_option
def encrypt_command(data_dir: Path, passphrase_file: Path | None, as_json: bool) -> int:
    """Encrypt every private key that is not encrypted yet, under the passphrase of --passphrase-file."""
    if passphrase_file is None:
        raise Stop("--passphrase-file is needed: the same file as keys.passphrase names", USAGE)
    ring = KeyRing(data_dir / "keys", passphrase=_passphrase(passphrase_file), private=False)
    changed = [str(path) for path in ring.encrypt()]
    message("name the same passphrase as keys.passphrase in the configuration; without it the gateway does not start")
    data({"encrypted": list(changed)}, "\n".join(changed) or "every key is encrypted already", as_json)
    return OK


@command.command("list")
@_DATA_DIR
@json_option
def list_command(data_dir: Path, as_json: bool) -> int:
    """List signing keys and, for the log, the vkey that verifiers are given."""
    if not (data_dir / "keys").is_dir():
        raise Stop(f"{data_dir} has no keys; the first start makes them, or `tollgate keys new log`")
    ring = KeyRing(data_dir / "keys", private=False)
    found = [_described(key, data_dir) | {"state": str(ring.state(key)), **_times(key)} for key in ring.list()]
    rows = [
        (str(key["purpose"]), str(key["kid"]), str(key["state"]), str(key["made"]), str(key.get("published_until", "")),
         str(key.get("vkey", "")))
        for key in found
    ]  # fmt: skip
    data({"keys": list(found)}, table([("PURPOSE", "KID", "STATE", "MADE", "PUBLISHED UNTIL", "VKEY"), *rows]), as_json)
    return OK


@command.command("jwks")
@_DATA_DIR
@click.option("--pem", type=click.Path(path_type=Path), help="Instead: this public key in PEM, for trust.signers.")
@click.option("--kid", default="", help="With --pem: the name that signatures call it; default its thumbprint.")
@json_option
def jwks_command(data_dir: Path, pem: Path | None, kid: str, as_json: bool) -> int:
    """Print the public keys that the gateway publishes, or one from a PEM file, as a JWK set."""
    if pem is not None:
        try:
            data(jwks_of([pem.read_bytes()], kid), "", True)
        except Malformed as error:
            raise Stop(f"{pem}: {error}", USAGE) from None
        return OK
    if not (data_dir / "keys").is_dir():
        raise Stop(f"{data_dir} has no keys; the first start makes them, or `tollgate keys new cards`")
    data(KeyRing(data_dir / "keys", private=False).jwks(), "", True)
    return OK


def _ring(data_dir: Path, passphrase_file: Path | None, config_file: Path | None) -> tuple[KeyRing, config.Settings]:
    """The ring that may be changed, and the settings it belongs to; without a configuration, the defaults."""
    if config_file is not None:
        if passphrase_file is not None:
            raise Stop("--config says what the passphrase is: leave --passphrase-file out", USAGE)
        settings = config.load(config_file, os.environ, vault=open_vault)
        return make_ring(settings, time.time), settings
    passphrase = None if passphrase_file is None else _passphrase(passphrase_file)
    return KeyRing(data_dir / "keys", passphrase=passphrase), config.Settings(data_dir=data_dir)


def _passphrase(path: Path) -> bytes:
    """As `{file: PATH}` in the configuration is read: without the newline at its end."""
    try:
        found = path.read_text("utf-8").removesuffix("\n").removesuffix("\r").encode()
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"the passphrase file {path} cannot be read: {error}", USAGE) from None
    if not found:
        raise Stop(f"the passphrase file {path} is empty", USAGE)
    return found


def _operator() -> str:
    """Who did it, for the record: the user of the system, whatever the environment says."""
    uid = os.getuid()
    try:
        return f"os:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"os:{uid}"


def _say_when(data_dir: Path) -> None:
    when = "the running gateway follows within a second" if running(data_dir) else "it counts from the next start on"
    message(f"{when}; a record of it goes into the log")


def _times(key: RingKey) -> dict[str, Json]:
    entry = key.entry
    times = {"made": entry.made, "signs_from": entry.signs_from, "retired": entry.retired,
             "published_until": entry.published_until, "revoked": entry.revoked}  # fmt: skip
    return {name: timestamp(at).partition(".")[0] + "Z" for name, at in times.items() if at is not None}


def _made(key: RingKey, data_dir: Path, as_json: bool) -> int:
    described = _described(key, data_dir)
    text = "\n".join(f"{name}: {value}" for name, value in described.items())
    data(described, text, as_json)
    return OK


def _described(key: RingKey, data_dir: Path) -> dict[str, Json]:
    found: dict[str, Json] = {"purpose": key.purpose, "kid": key.kid}
    origin = data_dir / "log" / "origin"
    if key.purpose == "log" and origin.is_file():
        found["vkey"] = str(VerifierKey.of(origin.read_text("utf-8").strip(), key.public_key()))
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
