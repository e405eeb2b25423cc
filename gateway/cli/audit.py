"""`tollgate audit`: the log as evidence. Verify it, prove an entry, follow it, take rows or a whole copy out of it.

Everything works on files and needs no running gateway; `verify` needs nothing but the directory and a key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway.cli.logs import log_folder, trusted_keys
from gateway.cli.output import OK, UNVERIFIED, USAGE, Stop, data, json_line, json_option, message, printable, to_stdout
from gateway.core.reasons import Malformed
from gateway.log import export as taking
from gateway.log.verify import Report, verify, verify_export
from gateway.log.verify_read import Wrong

_FOLLOW_SECONDS = 0.5
_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
_KEYS = click.option("--key", "keys", multiple=True, metavar="VKEY|@FILE", help="Trusted key; repeatable.")
_EPILOG = """\b
Examples:
  tollgate audit verify var --key @gateway.vkey
  tollgate audit verify var --since-checkpoint yesterday.checkpoint
  tollgate audit verify export.jsonl --key @gateway.vkey
  tollgate audit tail var -n 20 --follow
  tollgate audit export var --subject agent:idp/planner > rows.jsonl
  tollgate audit prove var 4711 > entry.tlog-proof
  tollgate audit backup var /backup/2026-11-22
"""


@click.group("audit", epilog=_EPILOG)
def command() -> None:
    """The signed log: verify, prove, tail, export, backup."""


@command.command("verify")
@click.argument("directory", metavar="DIR|EXPORT", type=click.Path(path_type=Path))
@_KEYS
@click.option("--require-key", is_flag=True, help="Exit 4 unless the key comes from --key or TOLLGATE_LOG_VKEY.")
@click.option("--since-checkpoint", type=click.Path(path_type=Path), help="Prove growth from this earlier checkpoint.")
@json_option
def verify_command(
    directory: Path, keys: Sequence[str], require_key: bool, since_checkpoint: Path | None, as_json: bool
) -> int:
    """Verify a log directory, or an export, offline; exit code 4 when it is not what was signed."""
    if directory.is_file():
        if not keys:
            require_key = True  # an export brings no key of its own
        trusted, source = trusted_keys(keys, directory, required=require_key)
        with directory.open("rb") as lines, _judged_by(source):
            report = verify_export(lines, trusted)
    else:
        folder = log_folder(directory)
        trusted, source = trusted_keys(keys, folder, required=require_key)
        since = since_checkpoint.read_bytes() if since_checkpoint is not None else None
        with _judged_by(source):
            report = verify(folder, trusted, since=since, now=time.time())
    if source == "log directory":
        message("key_source: log directory, proves consistency only; give the key you noted with --key")
    data({**report.record(), "key_source": source}, _verified(report), as_json)
    return OK if report.ok else UNVERIFIED


@contextmanager
def _judged_by(source: str) -> Iterator[None]:
    """A key that is none is a slip of the pen where it was typed, and no verification where it was found."""
    try:
        yield
    except Wrong as wrong:
        raise Stop(f"{source}: {wrong}", UNVERIFIED if source == "log directory" else USAGE) from None


def _verified(report: Report) -> str:
    lines = ["ok" if report.ok else "NOT VERIFIED"]
    lines += [f"  {problem}" for problem in report.problems]
    if report.origin:
        lines.append(f"  log {report.origin}, {report.size} entries, root {report.root}")
        lines.append(f"  signed by {report.key}")
        kinds = ", ".join(f"{name} {count}" for name, count in report.kinds.items())
        lines.append(
            f"  records: {kinds or 'none'}; outcomes unknown: {report.unknown}; in flight: {len(report.in_flight)}"
        )
        age = "" if report.checkpoint_age is None else f", checkpoint {report.checkpoint_age:.1f} s old"
        lines.append(f"  pending beyond the checkpoint: {report.pending}{age}")
    if report.since is not None:
        lines.append(f"  grew from {report.since} entries without a change to them")
    return "\n".join(lines)


@command.command("prove")
@_DIRECTORY
@click.argument("seq", type=click.IntRange(min=0))
@json_option
def prove_command(directory: Path, seq: int, as_json: bool) -> int:
    """Prove that entry SEQ is in the log: a c2sp.org/tlog-proof, or with --json the entry beside it."""
    try:
        found = taking.prove(log_folder(directory), seq)
    except (Malformed, StopIteration) as error:
        raise Stop(f"entry {seq} is not covered by the log's checkpoint: {error}", USAGE) from None
    if as_json:
        json_line(found.record())
    else:
        to_stdout([found.text.encode()])
    return OK


@command.command("tail")
@_DIRECTORY
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(min=0), help="Entries to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Stay and show what comes.")
@json_option
def tail_command(directory: Path, count: int, follow: bool, as_json: bool) -> int:
    """Show the newest records, the durable ones that no checkpoint covers yet too."""
    folder = log_folder(directory)
    start = taking.last(folder, count)
    seqs = [item.seq for item in taking.tail(folder, start)]  # with what no checkpoint covers there may be too many
    start = max(start, seqs[-1] + 1 - count) if seqs else start
    pause = threading.Event()
    while True:
        for item in taking.tail(folder, start):
            if as_json:
                to_stdout([item.entry + b"\n"])
            else:
                click.echo(_line(item.record(), item.published))
            start = item.seq + 1
        if not follow:
            return OK
        pause.wait(_FOLLOW_SECONDS)


def _line(record: dict[str, Any], published: bool) -> str:
    subject, resource = record.get("subject") or {}, record.get("resource") or {}
    said = (record.get("refusal") or {}).get("reason") or record.get("result") or ""
    said = said or (record.get("decision") or record.get("activation") or {}).get("effect") or "-"
    parts = [record.get("seq", ""), record.get("time", ""), record.get("kind", ""), said, subject.get("id", "-")]
    parts += [record.get("action", "-"), resource.get("id", "-"), record.get("exchange", "")]
    return printable("  ".join(map(str, parts))).replace("\n", "\\n") + ("" if published else "  (pending)")


@command.command("export")
@_DIRECTORY
@click.option("--from", "start", default=0, show_default=True, type=click.IntRange(min=0), help="First seq.")
@click.option("--to", "stop", type=click.IntRange(min=0), help="Seq behind the last (default: the checkpoint's size).")
@click.option("--subject", help="Only records of this subject.id.")
@click.option("--action", help="Only records of this action.")
@click.option("--kind", help="Only records of this kind.")
@click.option("--exchange", help="Only records of this exchange.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this new file instead of stdout.")
@json_option
def export_command(
    directory: Path,
    start: int,
    stop: int | None,
    subject: str | None,
    action: str | None,
    kind: str | None,
    exchange: str | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Take records out as JSON lines, each with its proof; always JSON. `audit verify` judges the result alone."""
    wanted = {"action": action, "kind": kind, "exchange": exchange}
    select = _select({name: value for name, value in wanted.items() if value is not None}, subject)
    lines = taking.export(log_folder(directory), start, stop, select=select)
    if output is None:
        to_stdout(lines)
        return OK
    count = -1  # the head line is no record
    with output.open("xb") as stream:
        for line in lines:
            stream.write(line)
            count += 1
    data({"output": str(output), "records": count}, f"{count} records written to {output}", as_json)
    return OK


def _select(wanted: dict[str, str], subject: str | None) -> Callable[[dict[str, Any]], bool] | None:
    if not wanted and subject is None:
        return None

    def chosen(record: dict[str, Any]) -> bool:
        if subject is not None and (record.get("subject") or {}).get("id") != subject:
            return False
        return all(record.get(name) == value for name, value in wanted.items())

    return chosen


@command.command("backup")
@_DIRECTORY
@click.argument("target", type=click.Path(path_type=Path))
@json_option
def backup_command(directory: Path, target: Path, as_json: bool) -> int:
    """Copy the log as of its checkpoint to TARGET, a directory that must not exist, while the gateway runs."""
    try:
        found = taking.backup(log_folder(directory), target)
    except FileExistsError:
        raise Stop(f"{target} is there already; a backup goes into a directory of its own", USAGE) from None
    text = f"{found.size} entries in {found.files} files, {found.bytes} bytes, copied to {target}"
    data(found.record(), text, as_json)
    return OK
