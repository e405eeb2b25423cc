"""`tollgate replay`: what would a candidate policy have done with the decisions that the log recorded?

Works on the files of a data directory, or asks a running gateway, which does the same beside its traffic. The log is
verified first; what it takes to trust it is as in `audit verify`. Exit code 0, 1 where a limit on flips is exceeded or
nothing could be replayed though a limit was set, 2 usage, 4 where the log is not what was signed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from gateway.assembly_replay import Progress, Replayed, Span, candidate, replay
from gateway.cli.logs import log_folder, trusted_keys
from gateway.cli.output import FAILED, OK, UNVERIFIED, USAGE, Stop, data, json_option, message
from gateway.cli.remote import admin_options
from gateway.cli.replayed import limits_exceeded, text_of
from gateway.config import DURATION, parse_duration
from gateway.core.canonical import Json
from gateway.core.records import timestamp
from gateway.log.verify_read import Wrong

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%")
_SAY_SECONDS = 1.0
_EPILOG = """\b
Examples:
  tollgate replay --bundle candidate.tar.gz --since 24h
  tollgate replay --bundle policies/rego --data-dir var --since 7d --max-new-denies 0
  tollgate replay --bundle policies/rego --data-dir var --sample 10% --json

\b
How much can be replayed depends on what records keep (audit.capture: none, shape or full): a decision
whose input the candidate reads and nobody knows any more is counted as not replayable, never guessed.
--since and --until take a time (2026-11-22T12:00:00Z) or how long ago (24h, 7d).
"""


def _limit(name: str, text: str) -> Callable[[_Command], _Command]:
    return click.option(name, type=click.IntRange(min=0), metavar="N", help=text)


@click.command("replay", epilog=_EPILOG)
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="The candidate: a folder or a .tar.gz.")
@click.option("--since", default="", metavar="T", help="Only decisions from then on.")
@click.option("--until", default="", metavar="T", help="Only decisions before then.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Read the log of this data directory.")
@admin_options
@_limit("--max-new-denies", "Exit 1 if more would turn from allow to deny.")
@_limit("--max-new-allows", "Exit 1 if more would turn from deny to allow.")
@_limit("--max-not-replayable", "Exit 1 if more could not be replayed.")
@click.option("--sample", default="100%", show_default=True, metavar="SHARE", help="A share of them, by exchange id.")
@click.option("--examples", default=5, show_default=True, type=click.IntRange(0, 99), help="For each kind of change.")
@click.option("--key", "keys", multiple=True, metavar="VKEY|@FILE", help="Trusted key of the log; repeatable.")
@click.option("--require-key", is_flag=True, help="Exit 4 unless the key comes from --key or TOLLGATE_LOG_VKEY.")
@click.option("--progress", is_flag=True, hidden=True, help="Progress as JSON lines on stderr.")
@json_option
def command(
    bundle: Path,
    since: str,
    until: str,
    data_dir: Path | None,
    admin: str,
    token_file: Path,
    max_new_denies: int | None,
    max_new_allows: int | None,
    max_not_replayable: int | None,
    sample: str,
    examples: int,
    keys: Sequence[str],
    require_key: bool,
    progress: bool,
    as_json: bool,
) -> int:
    """Replay recorded decisions through a candidate policy: what would change, and for whom."""
    limits = {"allow_to_deny": max_new_denies, "deny_to_allow": max_new_allows, "not_replayable": max_not_replayable}
    span = Span(_moment(since), _moment(until), _share(sample))
    if data_dir is None:
        from gateway.cli.replay_remote import replay_there

        asked = {"since": span.since, "until": span.until, "sample": sample, "examples": str(examples)}
        document = replay_there(admin, token_file, bundle, asked)
    else:
        document = _here(bundle, data_dir, span, examples, keys, require_key, progress)
    return _said(document, limits, as_json)


def _here(
    bundle: Path, data_dir: Path, span: Span, examples: int, keys: Sequence[str], required: bool, as_lines: bool
) -> dict[str, Json]:
    folder = log_folder(data_dir)
    trusted, source = trusted_keys(keys, folder, required=required)
    policy = candidate(bundle)
    began = time.monotonic()
    try:
        found = replay(policy, folder, trusted, span, examples=examples, progress=_teller(as_lines))
    except Wrong as wrong:
        raise Stop(f"{source}: {wrong}", UNVERIFIED if source == "log directory" else USAGE) from None
    if source == "log directory":
        message("key_source: log directory, proves consistency only; give the key you noted with --key")
    _verified(found)
    return {**found.record(), "key_source": source, "seconds": round(time.monotonic() - began, 3)}


def _verified(found: Replayed) -> None:
    if not found.verified.ok:
        for problem in found.verified.problems[:10]:
            message(f"  {problem}")
        raise Stop("the log is not what was signed: nothing was replayed; see `tollgate audit verify`", UNVERIFIED)


def _said(document: Mapping[str, Any], limits: Mapping[str, int | None], as_json: bool) -> int:
    exceeded = limits_exceeded(document, limits)
    data({**document, "exceeded": list(exceeded)}, text_of(document), as_json)
    for line in exceeded:
        message(line)
    if not document["replayed"] and document["decisions"] and not exceeded:
        message("no decision could be replayed: see not_replayable_because")
    return FAILED if exceeded else OK


def _moment(text: str) -> str:
    """A time as records write it, from itself or from how long ago it was."""
    if not text:
        return ""
    if re.fullmatch(DURATION, text):
        return timestamp(time.time() - parse_duration(text))
    from datetime import datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Stop(f"{text} is no time: write 2026-11-22T12:00:00Z, or how long ago, like 24h", USAGE)
    return timestamp(found.timestamp())


def _share(text: str) -> float:
    found = _SHARE.fullmatch(text)
    if found is None or not 0 < float(found[1]) <= 100:
        raise Stop(f"{text} is no share: write 10%", USAGE)
    return float(found[1]) / 100


def _teller(as_lines: bool) -> Any:
    """Says once a second how far it is."""
    said = time.monotonic()

    def tell(at: Progress) -> None:
        nonlocal said
        if time.monotonic() - said < _SAY_SECONDS:
            return
        said = time.monotonic()
        if as_lines:
            click.echo(orjson.dumps({"progress": at.record()}).decode(), err=True)
        else:
            message(f"{at.decisions} decisions, {at.done} of {at.entries} entries")

    return tell
