"""`tollgate check`: is a configuration right, the policy and the key file it names included; its schema, a starter.

It reads files only: nothing is created, nothing is asked over the network. Everything that is wrong is told at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from gateway import config
from gateway.assembly_bundles import files_source
from gateway.assembly_candidates import of_side
from gateway.assembly_keys import open_vault
from gateway.assembly_policy import make_engine
from gateway.assembly_prices import read_table
from gateway.cli.output import OK, USAGE, Stop, data, json_line, json_option, message
from gateway.cli.starter import STARTER
from gateway.core.bundles import BundleRefused
from gateway.core.canonical import Json
from gateway.identity.apikey import ApiKeyError, ApiKeys
from gateway.ledger.price_lint import lint
from gateway.ledger.prices import PriceTable
from gateway.pdp.compiled import compile_source
from gateway.pdp.doubts import doubts
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.syntax import PolicyRefused
from gateway.trust.keys import KeyRingError

_EPILOG = """\b
Examples:
  tollgate check gateway.yaml
  tollgate check --without-secrets gateway.yaml     where the secrets are not, as in CI
  tollgate check --example > gateway.yaml           a commented configuration to start from
  tollgate check --reference                        every key with its default and why
  tollgate check --schema > gateway.schema.json     for editors
  tollgate check --price-schema                     the same for the price list
"""


class _SystemClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@click.command("check", epilog=_EPILOG)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration.")
@click.option("--example", is_flag=True, help="Print a configuration to start from.")
@click.option("--reference", is_flag=True, help="Print every key with its default.")
@click.option("--price-schema", is_flag=True, help="Print the JSON Schema of the price list.")
@click.option("--without-secrets", is_flag=True, help="Do not read the secrets it names.")
@json_option
def command(
    file: Path | None,
    schema: bool,
    example: bool,
    reference: bool,
    price_schema: bool,
    without_secrets: bool,
    as_json: bool,
) -> int:
    """Check a configuration FILE; exit code 2 when it is invalid."""
    if schema or price_schema:
        json_line(config.json_schema() if schema else config.prices_schema())
        return OK
    if example or reference:
        click.echo(STARTER if example else config.reference(), nl=False)
        return OK
    if file is None:
        raise Stop("name the file to check, or one of --schema, --example, --reference", USAGE)
    problems: list[dict[str, Json]] = []
    summary: dict[str, Json] = {}
    try:
        settings = config.load(file, os.environ, secrets=not without_secrets, vault=open_vault)
        summary = _parts(settings, problems)
    except config.ConfigError as error:
        problems += _problems(error)
    if as_json:
        data({"ok": not problems, "file": str(file), **summary, "problems": list(problems)}, "", True)
    elif problems:
        for problem in problems:
            message(str(problem["text"]))
    else:
        click.echo(f"{file}: ok ({', '.join(f'{name} {value}' for name, value in summary.items())})")
    return USAGE if problems else OK


def _parts(settings: config.Settings, problems: list[dict[str, Json]]) -> dict[str, Json]:
    """What the configuration names besides itself: the policy and the API keys are read as `serve` would."""
    summary: dict[str, Json] = {"routes": len(settings.routes), "upstreams": len(settings.upstreams)}
    source = files_source(settings)
    try:
        if settings.policy.engine == "embedded":
            policy = compile_source(source(settings.policy))
            engine = EmbeddedEngine(policy)
            summary |= {"policy": engine.revision, "evaluated": engine.evaluation().where}
            for doubt in doubts(policy):
                message(f"policy: {doubt}")
        else:
            summary |= {"policy": f"{settings.policy.engine} at {settings.policy.url}"}
    except (PolicyRefused, BundleRefused, KeyRingError, OSError) as error:
        problems.append(_problem("policy.bundle", f"{error}"))
    for key, side in (("policy.shadow", settings.policy.shadow), ("policy.rollout", settings.policy.rollout)):
        if side is not None and side.engine == "embedded":
            try:
                summary[key] = make_engine(of_side(settings.policy, side), source=source).revision
            except (PolicyRefused, BundleRefused, KeyRingError, OSError) as error:
                problems.append(_problem(f"{key}.bundle", f"{error}"))
    if settings.trust.api_keys is not None:
        try:
            ApiKeys(settings.trust.api_keys.file, config.read_plain, _SystemClock())
        except (ApiKeyError, OSError) as error:
            problems.append(_problem("trust.api_keys.file", f"{error}"))
    if settings.prices is not None:
        try:
            listed = read_table(settings.prices)
            summary["prices"] = len(listed.rows)
            for doubt in (*lint(listed.rows, time.time(), settings.upstreams), *_unsaid(settings, listed)):
                message(f"{settings.prices}: {doubt}")
        except config.ConfigError as error:
            problems += _problems(error)
        except OSError as error:
            problems.append(_problem("prices", f"{error}"))
    return summary


def _unsaid(settings: config.Settings, listed: PriceTable) -> list[str]:
    """Routes on which callers may leave out what models with hidden output used."""
    counted = any(budget.unit in ("usd", "tokens") for budget in settings.budgets)
    if not counted or not any(row.hidden for row in listed.rows):
        return []
    return [
        f"route {route.name}: chat streams that ask for no usage settle as reserved, for models with reasoning; "
        "set include_usage: inject"
        for route in settings.routes
        if settings.upstreams[route.upstream].protocol == "openai" and route.include_usage != "inject"
    ]


def _problems(error: config.ConfigError) -> list[dict[str, Json]]:
    problems: list[dict[str, Json]] = []
    for found in error.problems:
        place: dict[str, Json] = {"file": found.place.source, "line": found.place.line, "key": found.key}
        problems.append({**place, "what": found.what, "do": found.do, "text": str(found)})
    return problems


def _problem(key: str, text: str) -> dict[str, Json]:
    return {"file": "", "line": 0, "key": key, "what": text, "do": "", "text": f"{key}: {text}"}
