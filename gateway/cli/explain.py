"""`tollgate explain`: what happened to one request, by the id its answer carried in X-Request-Id.

A running gateway is asked; with `--data-dir` the log's files are read instead, beside a running gateway or after it.
The policy that decided is then what `--bundle` or `--config` names, if it is the very revision that the records name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import environ
from pathlib import Path
from typing import Any

import click

from gateway import config
from gateway.assembly_bundles import candidate_source
from gateway.assembly_candidates import Arranging
from gateway.assembly_policy import close_engine, make_engine
from gateway.assembly_why import decision_in, embedded, known, why_recorded
from gateway.cli.logs import log_folder
from gateway.cli.output import OK, USAGE, Stop, data, json_option
from gateway.cli.remote import admin_options, get
from gateway.cli.told import exchange
from gateway.control.explain import explain
from gateway.core.canonical import Json
from gateway.log.export import tail

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPILOG = """\b
Examples:
  tollgate explain 01990c2e-7b1a-7cc3-98c4-dc0c0c07398f
  tollgate explain 01990c2e-... --data-dir var --config gateway.yaml     without a running gateway
"""


@click.command("explain", epilog=_EPILOG)
@click.argument("exchange_id")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Read the log of this data directory.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="With --data-dir: the policy that decided, folder or .tar.gz."
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="The same, as this configuration names it.")
@admin_options
@json_option
def command(
    exchange_id: str, data_dir: Path | None, bundle: Path | None, file: Path | None, admin: str, token_file: Path,
    as_json: bool,
) -> int:  # fmt: skip
    """Explain one exchange: who asked what, which stages it passed, what policy said and why, and what came of it."""
    ident = exchange_id.lower()
    if _ID.fullmatch(ident) is None:
        raise Stop(f"{exchange_id} is no exchange id: it is the UUID in the answer's X-Request-Id", USAGE)
    if data_dir is not None:
        document = _from_files(log_folder(data_dir), ident, bundle, file)
    elif bundle is not None or file is not None:
        raise Stop("--bundle and --config go with --data-dir: a running gateway knows its policy", USAGE)
    else:
        document = get(admin, token_file, f"/api/v1/decisions/{ident}")
    data(document, exchange(document), as_json)
    return OK


def _from_files(folder: Path, ident: str, bundle: Path | None, file: Path | None) -> dict[str, Any]:
    mark = ident.encode()
    found = [item.record() for item in tail(folder, 0) if mark in item.entry]
    records = [record for record in found if record.get("exchange") == ident]
    if not records:
        raise Stop(f"no record of {ident} in {folder}")
    document = dict(explain(records))
    decision = decision_in(records)
    if decision is not None and (bundle is not None or file is not None):
        document["why"] = _why(decision, records, bundle, file)
    return document


def _why(
    decision: Mapping[str, Json], records: Sequence[Mapping[str, Json]], bundle: Path | None, file: Path | None
) -> dict[str, Json]:
    """By the policy of that revision alone. Raises PolicyRefused, ConfigError, OSError for one that cannot be read."""
    settings = config.load(file, environ, secrets=False) if file is not None else None
    policy = settings.policy if settings is not None else config.Policy()
    named = policy if bundle is None else replace(policy, engine="embedded", bundle=bundle, rollout=None)
    read = partial(make_engine, source=lambda policy: candidate_source(policy.bundle))  # the revision says which it is
    engine = Arranging(read, None)(named)
    upstreams = {route.name: route.upstream for route in settings.routes} if settings is not None else {}
    try:
        for found in embedded(engine):
            if found.revision == decision.get("revision"):
                return why_recorded(known(found), decision, records, upstreams)
    finally:
        asyncio.run(close_engine(engine))
    note = f"The policy that is named has the revision {engine.revision}; another one decided"
    return {"revision": decision.get("revision"), "note": note}
