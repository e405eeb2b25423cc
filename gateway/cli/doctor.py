"""`tollgate doctor`: would it start, and would it start well? Each check by itself, all of them told.

It creates nothing that stays, asks no upstream anything (a TCP connection is opened and closed), and takes no lock: it
may run beside the gateway. Exit code 1 when any check failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from gateway import config
from gateway.assembly_keys import open_vault
from gateway.cli import doctor_checks as checks
from gateway.cli.doctor_candidates import candidates
from gateway.cli.doctor_checks import FAIL, Finding
from gateway.cli.doctor_counters import counters
from gateway.cli.output import FAILED, OK, data, json_option, table

_MARKS: Final = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}
_EPILOG = """\b
Examples:
  tollgate doctor --config gateway.yaml
  tollgate doctor --config gateway.yaml --json | jq '.checks[] | select(.state != "ok")'
"""


@click.command("doctor", epilog=_EPILOG)
@click.option("--config", "file", required=True, type=click.Path(path_type=Path), help="The configuration to look at.")
@json_option
def command(file: Path, as_json: bool) -> int:
    """Check this machine and a configuration before, or beside, a running gateway."""
    try:
        settings = config.load(file, os.environ, vault=open_vault)
    except config.ConfigError as error:
        findings = [Finding("configuration", FAIL, str(problem)) for problem in error.problems]
    else:
        findings = [Finding("configuration", "ok", f"{file}: {len(settings.routes)} routes"), *look(settings)]
    failed = any(finding.state == FAIL for finding in findings)
    rows = [(_MARKS[finding.state], finding.name, finding.detail) for finding in findings]
    data({"ok": not failed, "checks": [finding.record() for finding in findings]}, table(rows), as_json)
    return FAILED if failed else OK


def look(settings: config.Settings) -> list[Finding]:
    """Every check on a configuration that loaded."""
    running = checks.running(settings.data_dir)
    every: list[Callable[[], list[Finding]]] = [
        lambda: checks.data_directory(settings.data_dir, running),
        lambda: checks.disk(settings.data_dir),
        lambda: checks.key_files(settings),
        lambda: checks.policy(settings),
        lambda: candidates(settings),
        lambda: counters(settings),
        lambda: checks.listeners(settings, running),
        lambda: checks.reachable(settings),
        lambda: checks.clock(settings.data_dir),
        lambda: checks.open_files(settings.front.connections),
    ]
    return [finding for one in every for finding in one()]
