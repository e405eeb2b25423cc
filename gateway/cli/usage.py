"""`tollgate usage`: what was used, and what a period comes to by the signed log alone.

`show` asks a running gateway. `invoice` believes nobody: it verifies the log as `audit verify` does, adds it up by a
code of its own, and says where the ledger's sums differ (exit 4); it works on a data directory's files, or on a running
gateway's, which it copies first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from gateway.cli.invoice import Invoice, of_files, of_gateway
from gateway.cli.output import OK, UNVERIFIED, USAGE, Stop, data, json_option, message, table
from gateway.cli.remote import admin_options, fetched, get
from gateway.core.usage import DIMENSIONS
from gateway.log.bill import MARKS, MEASURES, grouped, money

BAR = 24
_SHOWN = (
    ("CALLS", "calls"), ("REFUSED", "refusals"), ("IN", "input_tokens"), ("OUT", "output_tokens"), ("USD", "usd"),
)  # fmt: skip
_NAMES = ("org", "type", "resource")
_DAY = click.DateTime(["%Y-%m-%d"])
_EPILOG = """\b
Examples:
  tollgate usage show                                    by organisation and resource
  tollgate usage show --by model,day --from 2026-11-01 --only org=acme
  tollgate usage show --by day --bars calls              where one would rather look
  tollgate usage show --by org,model --csv > usage.csv
  tollgate usage invoice --from 2026-11-01 --to 2026-11-30 --data-dir var --key @gateway.vkey
  tollgate usage invoice --from 2026-11-01 --to 2026-11-30 --admin http://127.0.0.1:8081
"""


@click.group("usage", epilog=_EPILOG)
def command() -> None:
    """Usage: show it, and prove what it comes to."""


@command.command("show")
@click.option("--by", default="org,resource", show_default=True, help=f"Commas between: {', '.join(DIMENSIONS)}.")
@click.option("--from", "start", metavar="DAY", help="First day, UTC.")
@click.option("--to", "stop", metavar="DAY", help="Last day, included.")
@click.option("--only", multiple=True, metavar="NAME=VALUE", help="Only this one; repeatable.")
@click.option(
    "--bars",
    type=click.Choice([name for _, name in _SHOWN]),
    help="Show this as bars (default: usd, where there is any).",
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Rows at most.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, all columns.")
@admin_options
@json_option
def show_command(
    by: str, start: str | None, stop: str | None, only: Sequence[str], bars: str | None, limit: int, as_csv: bool,
    admin: str, token_file: Path, as_json: bool,
) -> int:  # fmt: skip
    """Show what was used, summed up by the gateway."""
    query = {"by": by, "limit": str(limit), **({"from": start} if start else {}), **({"to": stop} if stop else {})}
    for one in only:
        name, found, value = one.partition("=")
        if not found or name not in DIMENSIONS:
            raise Stop(f"--only is NAME=VALUE with a NAME of {', '.join(DIMENSIONS)}", USAGE)
        query[name] = value
    if as_csv:
        click.echo(_csv(admin, token_file, query), nl=False)
        return OK
    page = get(admin, token_file, f"/api/v1/usage?{urlencode(query)}")
    data(page, _table(page, bars), as_json)
    if page["next"] is not None:
        message(f"there is more than {limit} rows; --limit shows more, or ask --by less")
    return OK


@command.command("invoice")
@click.option("--from", "first", required=True, type=_DAY, metavar="DAY", help="First day, UTC.")
@click.option("--to", "last", required=True, type=_DAY, metavar="DAY", help="Last day, included.")
@click.option("--by", default="org,type,resource", show_default=True, help="Commas between: org, type, resource.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Whose log and book of usage (default: var).")
@click.option("--admin", metavar="URL", help="A running gateway instead: its log is copied, its counters are asked.")
@click.option(
    "--token-file",
    envvar="TOLLGATE_TOKEN_FILE",
    default="var/admin.token",
    show_default=True,
    type=click.Path(path_type=Path),
    help="File with the admin token (or TOLLGATE_TOKEN_FILE).",
)
@click.option("--key", "keys", multiple=True, metavar="VKEY|@FILE", help="Trusted key of the log; repeatable.")
@click.option("--log-only", is_flag=True, help="Compare with no ledger: for a copy of a log.")
@json_option
def invoice_command(
    first: Any, last: Any, by: str, data_dir: Path | None, admin: str | None, token_file: Path, keys: Sequence[str],
    log_only: bool, as_json: bool,
) -> int:  # fmt: skip
    """What the days come to by the log alone, and that the ledger says the same."""
    names = tuple(part for part in by.split(",") if part)
    if not names or not set(names) <= set(_NAMES) or len(set(names)) != len(names):
        raise Stop(f"--by is a list of {', '.join(_NAMES)}, with commas between, none twice", USAGE)
    if admin is not None and (data_dir is not None or log_only):
        raise Stop("--admin stands for itself: say --data-dir for files", USAGE)
    days = first.strftime("%Y-%m-%d"), last.strftime("%Y-%m-%d")
    if days[0] > days[1]:
        raise Stop("--from is after --to", USAGE)
    if admin is None:
        found = of_files(data_dir or Path("var"), days, keys, log_only=log_only)
    else:
        with tempfile.TemporaryDirectory(prefix="tollgate-log-") as folder:
            found = of_gateway(admin, token_file, Path(folder) / "log", days, keys)
    if found.key_source == "log directory":
        message("key_source: log directory, proves consistency only; give the key you noted with --key")
    data(found.record(names), _invoice(found, names), as_json)
    return OK if found.proven else UNVERIFIED


def _csv(admin: str, token_file: Path, query: dict[str, str]) -> str:
    found = fetched(admin, token_file, f"/api/v1/usage?{urlencode({**query, 'format': 'csv'})}")
    if found is None:
        raise Stop(f"{admin} has no usage: is it the admin plane of this version?")
    return found.decode("utf-8")


def _table(page: dict[str, Any], bars: str | None) -> str:
    by, rows, total = page["by"], page["rows"], page["total"]
    measure = bars or ("usd" if Decimal(total["usd"]) else "calls")
    shown = [(title, name) for title, name in _SHOWN if name in ("calls", "usd") or total.get(name)]
    most = max((Decimal(row.get(name, 0)) for row in rows for name in (measure,)), default=Decimal(0))
    lines = [[*map(str.upper, by), *(title for title, _ in shown), ""]]
    for row in rows:
        numbers = [str(row.get(name, 0)) for _, name in shown]
        lines.append([*(row[name] or "-" for name in by), *numbers, _bar(Decimal(row.get(measure, 0)), most)])
    lines.append([*("TOTAL" if not at else "" for at in range(len(by))), *(str(total.get(n, 0)) for _, n in shown), ""])
    text = _aligned(lines, len(by))
    notes = [f"{total[name]} calls {what}" for name, what in _NOTES if total.get(name)]
    return f"{text}\n\n{'; '.join(notes)}" if notes else text


_NOTES = (("estimated", "estimated"), ("unpriced", "without a price"), ("unknown", "whose outcome is not known"))


def _aligned(lines: list[list[str]], names: int) -> str:
    """Numbers stand under numbers."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return table(
        [
            [cell if at < names or at == len(line) - 1 else cell.rjust(widths[at]) for at, cell in enumerate(line)]
            for line in lines
        ]
    )


def _bar(value: Decimal, most: Decimal) -> str:
    if most <= 0 or value <= 0:
        return ""
    return "\N{FULL BLOCK}" * int(value / most * BAR) or "\N{LEFT ONE EIGHTH BLOCK}"


def _invoice(found: Invoice, names: tuple[str, ...]) -> str:
    lines = [[*(name.upper() for name in names), *(name.upper().replace("_", " ") for name in MEASURES), ""]]
    total = dict.fromkeys(MEASURES, Decimal(0))
    for group, line in grouped(found.bill.lines, names).items():
        lines.append([*(part or "-" for part in group), *(money(line.amounts[name]) for name in MEASURES), ""])
        for name in MEASURES:
            total[name] += line.amounts[name]
    lines.append([*("TOTAL" if not at else "" for at in range(len(names))), *(money(total[n]) for n in MEASURES), ""])
    text = [f"{found.days[0]} to {found.days[1]} (UTC), by the log", "", _aligned(lines, len(names)), ""]
    marks = {name: sum(line.marks[name] for line in found.bill.lines.values()) for name in MARKS}
    text += [f"{marks[name]} calls {what}" for name, what in _NOTES if marks[name]]
    return "\n".join([*text, *found.told()])
