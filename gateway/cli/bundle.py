"""`tollgate bundle`: policy as signed bundles in OPA's format; made and verified on files, put in force on a gateway.

What is verified here is what the gateway verifies, by the same numbered rules; a refusal is exit code 4 and says the
number. What is built is the same bytes for the same policy. Private keys are files, never arguments.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from gateway import config
from gateway.assembly_bundles import read_tarball, rules_of
from gateway.cli.bundle_live import activate_command, list_command, push_command, rollback_command
from gateway.cli.output import FAILED, OK, UNVERIFIED, USAGE, Stop, data, json_line, json_option, message
from gateway.cli.signing import from_file, from_ring, passphrase_of
from gateway.core.bundles import BundleRefused, Terms
from gateway.core.canonical import Json, digest
from gateway.core.reasons import Malformed
from gateway.pdp.apart import SeparateLab
from gateway.pdp.sources import PolicySource, read_folder
from gateway.trust.bundle import BundleRules, Verifier, examine, read_unverified
from gateway.trust.bundle_build import Plan, build, sign
from gateway.trust.bundle_content import Content
from gateway.trust.bundle_signature import BundleSigner
from gateway.trust.jose import SET_LIMIT_BYTES, Signer, read_jwks
from gateway.trust.keys import KeyRing
from gateway.trust.pem import is_pem, jwks_of

_PATH = click.Path(path_type=Path)
_EPILOG = """\b
Examples:
  tollgate bundle build policies --revision 42 -o policy.tar.gz --key signing.pem
  tollgate bundle build policies --revision v1.4.2 --number 42 -o policy.tar.gz --data-dir var
  tollgate bundle sign policy.tar.gz --key signing.pem --scope production
  tollgate bundle verify policy.tar.gz --key public.pem       exit code 4, with the rule's number, where it is refused
  tollgate bundle test policies                               its own tests, apart from everything
  tollgate bundle push policy.tar.gz --activate
  tollgate bundle rollback                                    to the one before; --to 41 to another one
  opa build -b policies --signing-key signing.pem --revision 43 -o policy.tar.gz     is a bundle as well
"""


_Command = TypeVar("_Command", bound=Callable[..., int])


def _signing_options(command: _Command) -> _Command:
    """Who signs, and what for; beside --key."""
    for option in (
        click.option("--scope", default="", help="What it is signed for, as policy.scope says there."),
        click.option("--passphrase-file", type=_PATH, help="What the private key is encrypted under."),
        click.option("--data-dir", type=_PATH, help="Instead of --key: the gateway's own key for bundles."),
        click.option("--kid", default="", help="The key's name; default its RFC 7638 thumbprint."),
    ):
        command = option(command)
    return command


@click.group("bundle", epilog=_EPILOG)
def command() -> None:
    """Policy bundles: build, sign, verify, test, push, activate, rollback, list."""


@command.command("build")
@click.argument("folder", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, help="The tarball to write.")
@click.option("--revision", required=True, help="Your word for it, as in 42 or v1.4.2.")
@click.option("--number", type=int, help="What orders bundles; default the revision, where it is a whole number.")
@click.option("--root", "roots", multiple=True, help="A path below data that it owns; repeatable; default all of it.")
@click.option("--not-before", default="", metavar="TIME", help="RFC 3339, as in 2027-01-01T00:00:00Z.")
@click.option("--expires", default="", metavar="TIME", help="RFC 3339: it is not activated after that.")
@click.option("--key", type=_PATH, help="Sign with this private key in PEM: Ed25519, P-256, P-384 or RSA.")
@_signing_options
@json_option
def build_command(
    folder: Path,
    output: Path,
    revision: str,
    number: int | None,
    roots: tuple[str, ...],
    not_before: str,
    expires: str,
    key: Path | None,
    kid: str,
    data_dir: Path | None,
    passphrase_file: Path | None,
    scope: str,
    as_json: bool,
) -> int:
    """Build a bundle of a FOLDER of Rego and data files: the same bytes each time; signed with --key or --data-dir."""
    source = read_folder(folder)
    modules = {module.path: module.text for module in (*source.modules, *source.tests)}
    plan = Plan(modules, source.data, revision, number, roots or ("",), not_before, expires)
    by = _signer(key, kid, data_dir, passphrase_file)
    try:
        made = build(plan)
        examine(_content(source), SeparateLab(), run=False)
        made = sign(made, by, scope=scope) if by is not None else made
    except BundleRefused as error:
        raise Stop(f"{folder}: {error}", FAILED) from None
    return _write(output, made, by, revision, as_json)


@command.command("sign")
@click.argument("file", type=_PATH)
@click.option("-o", "--output", type=_PATH, help="Where to write it; default in place.")
@click.option("--key", type=_PATH, help="A private key in PEM: Ed25519, P-256, P-384 or RSA.")
@_signing_options
@json_option
def sign_command(
    file: Path,
    output: Path | None,
    key: Path | None,
    kid: str,
    data_dir: Path | None,
    passphrase_file: Path | None,
    scope: str,
    as_json: bool,
) -> int:
    """Sign a bundle FILE, in place of the signature that it has."""
    by = _signer(key, kid, data_dir, passphrase_file)
    if by is None:
        raise Stop("exactly one of --key and --data-dir is needed", USAGE)
    try:
        tarball = read_tarball(file)
        made = sign(tarball, by, scope=scope)
        revision = read_unverified(made).revision
    except BundleRefused as error:
        raise Stop(f"{file}: {error}", FAILED) from None
    return _write(output or file, made, by, revision, as_json)


@command.command("verify")
@click.argument("file", type=_PATH)
@click.option("--key", "keys", multiple=True, type=_PATH, help="Whom you trust: a PEM or a JWK set; repeatable.")
@click.option("--scope", default="", help="What it must be signed for.")
@click.option("--root", "roots", multiple=True, help="A path below data that it may define; default all of it.")
@click.option("--after", type=int, default=-1, help="Its number must be above this one.")
@click.option(
    "--config", "config_file", type=_PATH, help="Instead of all these: as this configuration's gateway would."
)
@click.option("--no-tests", is_flag=True, help="Do not run its own tests.")
@json_option
def verify_command(
    file: Path,
    keys: tuple[Path, ...],
    scope: str,
    roots: tuple[str, ...],
    after: int,
    config_file: Path | None,
    no_tests: bool,
    as_json: bool,
) -> int:
    """Verify a bundle FILE by every rule; exit code 4 where one does not hold."""
    if (config_file is None) == (not keys):
        raise Stop("say whom you trust: --key FILE, or --config FILE", USAGE)
    rules = _configured(config_file) if config_file is not None else _given(keys, scope, roots)
    verifier = Verifier(lambda: rules, SeparateLab(), time.time)
    try:
        bundle = verifier.verify(read_tarball(file), Terms(after, time.time(), not no_tests))
    except BundleRefused as error:
        if as_json:
            json_line({"verified": False, "rule": error.rule, "why": error.text})
        raise Stop(f"{file}: {error}", UNVERIFIED) from None
    facts: dict[str, Json] = {"verified": True, **bundle.facts()}
    data(facts, "\n".join(f"{name}: {_text(value)}" for name, value in facts.items()), as_json)
    return OK


@command.command("test")
@click.argument("path", type=_PATH)
@json_option
def test_command(path: Path, as_json: bool) -> int:
    """Run a policy's own tests: a folder's, or a bundle's whoever signed it. Exit code 1 where one fails."""
    try:
        if path.is_file():
            found = read_unverified(read_tarball(path))
            content = Content(found.modules, found.tests, {**found.data})
        else:
            content = _content(read_folder(path))
    except BundleRefused as error:
        raise Stop(f"{path}: {error}", FAILED) from None
    report = SeparateLab().examine(content.modules, content.tests, content.data, run=True)
    if report.problem:
        raise Stop(report.problem, FAILED)
    document: dict[str, Json] = {"ran": report.ran, "failed": list(report.failed), "coverage": report.coverage}
    lines = [*report.failed, f"{report.ran} tests, {len(report.failed)} failed, {report.coverage:.0%} of the lines"]
    data(document, "\n".join(lines), as_json)
    if not content.tests:
        message("there are no tests: write them in *_test.rego, rules named test_...")
    return FAILED if report.failed else OK


command.add_command(push_command)
command.add_command(activate_command)
command.add_command(rollback_command)
command.add_command(list_command)


def _content(source: PolicySource) -> Content:
    served, tests = ({module.path: module.text for module in part} for part in (source.modules, source.tests))
    return Content(served, tests, {**source.data})


def _signer(key: Path | None, kid: str, data_dir: Path | None, passphrase_file: Path | None) -> Signer | None:
    if key is not None and data_dir is not None:
        raise Stop("only one of --key and --data-dir can sign", USAGE)
    passphrase = passphrase_of(passphrase_file)
    if key is not None:
        return from_file(key, kid, False, passphrase)
    return from_ring(data_dir, "bundles", passphrase) if data_dir is not None else None


def _write(output: Path, made: bytes, by: Signer | None, revision: str, as_json: bool) -> int:
    output.write_bytes(made)
    found: dict[str, Json] = {"file": str(output), "revision": revision, "digest": digest(made), "bytes": len(made)}
    if by is not None:
        found |= {"algorithm": by.algorithm, "kid": by.kid}
    else:
        message("it is not signed: no gateway takes it before `tollgate bundle sign`")
    data(found, "\n".join(f"{name}: {_text(value)}" for name, value in found.items()), as_json)
    return OK


def _given(files: tuple[Path, ...], scope: str, roots: tuple[str, ...]) -> BundleRules:
    return BundleRules([_trusted(path) for path in files], scope, roots or ("",))


def _trusted(path: Path) -> BundleSigner:
    with path.open("rb") as file:
        read = file.read(SET_LIMIT_BYTES + 1)
    bare = is_pem(read)
    try:
        found = read_jwks(json.dumps(jwks_of([read])).encode() if bare else read)
    except Malformed as error:
        raise Stop(f"{path}: {error}", USAGE) from None
    return BundleSigner(str(path), lambda: found, any_name=bare)


def _configured(file: Path) -> BundleRules:
    settings = config.load(file, os.environ, secrets=False)
    folder = settings.data_dir / "keys"
    return rules_of(settings, KeyRing(folder, private=False) if folder.is_dir() else None)


def _text(value: Json) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
