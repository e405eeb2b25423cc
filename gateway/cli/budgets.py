"""`tollgate budgets`: what may be used, how accounts stand, and what an administrator does to one.

A running gateway's admin plane is asked. An account is a budget and the values of its key, in the budget's order; where
a caller has no such value, or it is not to be typed, `--key` takes them as a JSON array. An act is a record before it
counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from gateway.cli.output import OK, USAGE, Stop, data, json_option, message, table
from gateway.cli.remote import admin_options, get, post, send
from gateway.core.canonical import Json

BAR = 20  # characters of a full one
PAGE = 500

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EPILOG = """\b
Examples:
  tollgate budgets list                                        budgets, and when their periods end
  tollgate budgets list org-month --find acme                  accounts, the fullest first
  tollgate budgets show org-month acme                         one account, and what was done to it
  tollgate budgets show per-run --key '["acme",null]'          a key with a value that is not there
  tollgate budgets set org-month acme --amount 250 --why "a new contract"
  tollgate budgets set org-month acme --unset                  the budget's own amount again
  tollgate budgets top-up org-month acme --amount 20           this period only
  tollgate budgets grant org-month acme --amount 20 --until 2026-12-01T00:00:00Z
  tollgate budgets reset org-month acme --why "billed twice"   what was settled is forgiven
"""


def _account(command: _Command) -> _Command:
    command = click.option("--key", "key", metavar="JSON", help="The key's values as a JSON array.")(command)
    command = click.argument("values", nargs=-1)(command)
    return click.argument("name")(command)


def _act(command: _Command) -> _Command:
    command = click.option("--if-match", metavar="ETAG", help="Only if the account is still what `show` said.")(command)
    return click.option("--why", default="", help="For the record, and for whoever looks.")(command)


@click.group("budgets", epilog=_EPILOG)
def command() -> None:
    """Budgets: list, show, set, top-up, grant, reset."""


@command.command("list")
@click.argument("name", required=False)
@click.option("--find", default="", help="Only accounts whose key contains this.")
@admin_options
@json_option
def list_command(name: str | None, find: str, admin: str, token_file: Path, as_json: bool) -> int:
    """List budgets; with NAME, the accounts of one, the fullest first."""
    if name is None:
        found = get(admin, token_file, "/api/v1/budgets")
        rows = [("BUDGET", "PER", "AMOUNT", "UNIT", "PERIOD", "ENDS"), *map(_budget_row, found["budgets"])]
        data(found, table(rows) if found["budgets"] else "no budgets", as_json)
        return OK
    accounts, budget = _accounts(admin, token_file, name, find)
    accounts.sort(key=_share, reverse=True)
    rows = [("ACCOUNT", "USED", "", "SETTLED", "RESERVED", "LEFT", "OF"), *map(_account_row, accounts)]
    text = f"{name}: {budget['amount']} {budget['unit']} per {budget['period']}"
    if budget.get("ends"):
        text += f", until {budget['ends']}"
    data({"budget": budget, "accounts": [*accounts]}, f"{text}\n\n{table(rows)}", as_json)
    return OK


@command.command("show")
@_account
@click.option("--period", help="When a period that is over began, as `show` says it.")
@admin_options
@json_option
def show_command(
    name: str, values: Sequence[str], key: str | None, period: str | None, admin: str, token_file: Path, as_json: bool
) -> int:
    """Show one account: its balance, its grants, and what was done to it."""
    query = {"key": json.dumps(_values(values, key)), **({"period": period} if period else {})}
    found = get(admin, token_file, f"{_path(name)}?{urlencode(query)}")
    data(found, _text(found), as_json)
    return OK


@command.command("set")
@_account
@click.option("--amount", help="In the budget's unit, as in 12.50: instead of the budget's, from now on.")
@click.option("--unset", is_flag=True, help="The budget's own amount again.")
@_act
@admin_options
@json_option
def set_command(
    name: str, values: Sequence[str], key: str | None, amount: str | None, unset: bool, why: str, if_match: str | None,
    admin: str, token_file: Path, as_json: bool,
) -> int:  # fmt: skip
    """Set an account's amount, for this period and those to come."""
    if (amount is None) != unset:
        raise Stop("say --amount or --unset", USAGE)
    wanted: dict[str, Json] = {"key": _values(values, key), "amount": amount, **({"why": why} if why else {})}
    body = json.dumps(wanted).encode()
    found = send(admin, token_file, "PUT", _path(name), body, "application/json", etag=if_match or "")
    return _done(found, as_json)


@command.command("top-up")
@_account
@click.option("--amount", required=True, help="In the budget's unit, as in 12.50.")
@_act
@admin_options
@json_option
def top_up_command(
    name: str, values: Sequence[str], key: str | None, amount: str, why: str, if_match: str | None,
    admin: str, token_file: Path, as_json: bool,
) -> int:  # fmt: skip
    """Add to an account's running period."""
    wanted: dict[str, Json] = {"key": _values(values, key), "act": "top-up", "amount": amount}
    return _acted(name, wanted, why, if_match, admin, token_file, as_json)


@command.command("grant")
@_account
@click.option("--amount", required=True, help="In the budget's unit, as in 12.50.")
@click.option("--until", required=True, metavar="TIME", help="When it is over, RFC 3339: 2026-12-01T00:00:00Z.")
@_act
@admin_options
@json_option
def grant_command(
    name: str, values: Sequence[str], key: str | None, amount: str, until: str, why: str, if_match: str | None,
    admin: str, token_file: Path, as_json: bool,
) -> int:  # fmt: skip
    """Add to an account until a time, and no longer than its running period."""
    wanted: dict[str, Json] = {"key": _values(values, key), "act": "grant", "amount": amount, "until": until}
    return _acted(name, wanted, why, if_match, admin, token_file, as_json)


@command.command("reset")
@_account
@_act
@admin_options
@json_option
def reset_command(
    name: str, values: Sequence[str], key: str | None, why: str, if_match: str | None,
    admin: str, token_file: Path, as_json: bool,
) -> int:  # fmt: skip
    """Forgive what an account has used so far in its running period. What is reserved stays."""
    wanted: dict[str, Json] = {"key": _values(values, key), "act": "reset"}
    return _acted(name, wanted, why, if_match, admin, token_file, as_json)


def _acted(
    name: str, wanted: dict[str, Json], why: str, if_match: str | None, admin: str, token_file: Path, as_json: bool
) -> int:
    if why:
        wanted["why"] = why
    return _done(post(admin, token_file, _path(name), wanted, etag=if_match or ""), as_json)


def _done(found: dict[str, Any], as_json: bool) -> int:
    if found.get("told") is False:
        message("it is recorded; the counters do not answer now and are told as soon as they do")
        data(found, "", as_json)
        return OK
    data(found, _text(found), as_json)
    return OK


def _accounts(admin: str, token_file: Path, name: str, find: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All of them."""
    accounts: list[dict[str, Any]] = []
    cursor = ""
    while True:
        query = {"limit": str(PAGE), **({"find": find} if find else {}), **({"cursor": cursor} if cursor else {})}
        found = get(admin, token_file, f"/api/v1/budgets/{quote(name, safe='')}?{urlencode(query)}")
        accounts += found["accounts"]
        cursor = found["next"] or ""
        if not cursor:
            return accounts, found["budget"]


def _values(values: Sequence[str], key: str | None) -> Json:
    if key is None:
        if not values:
            raise Stop("name the account by the values of its key, or with --key", USAGE)
        return [*values]
    try:
        found: Json = json.loads(key)
    except ValueError:
        found = None
    if values or not isinstance(found, list):
        raise Stop("--key is a JSON array and stands for all values", USAGE)
    return found


def _path(name: str) -> str:
    return f"/api/v1/budgets/{quote(name, safe='')}/account"


def _share(account: dict[str, Any]) -> float:
    """How much of it is used or reserved, from 0; more than 1 where more was."""
    whole = Decimal(account["most"]) + Decimal(account["granted"])
    used = Decimal(account["settled"]) + Decimal(account["reserved"])
    if whole <= 0:
        return 1.0 if used else 0.0
    return float(used / whole)


def bar(share: float) -> str:
    full = round(max(0.0, min(1.0, share)) * BAR)
    return "\N{FULL BLOCK}" * full + "\N{LIGHT SHADE}" * (BAR - full)


def _name(key: Sequence[str | None]) -> str:
    """As one types it; a key with something that is not there, as JSON."""
    if any(value is None or not value or " " in value for value in key):
        return json.dumps(key, ensure_ascii=False)
    return " ".join(map(str, key))


def _budget_row(budget: dict[str, Any]) -> Sequence[str]:
    return (
        budget["name"], " ".join(budget["key"]), budget["amount"], budget["unit"],
        f"{budget['window']} s" if "window" in budget else budget["period"], budget.get("ends", ""),
    )  # fmt: skip


def _account_row(account: dict[str, Any]) -> Sequence[str]:
    share, whole = _share(account), Decimal(account["most"]) + Decimal(account["granted"])
    return (
        _name(account["key"]), bar(share), f"{share:4.0%}", account["settled"], account["reserved"], account["left"],
        f"{whole:f}",
    )  # fmt: skip


def _text(found: dict[str, Any]) -> str:
    share = _share(found)
    head = f"{found['budget']} {_name(found['key'])}: {bar(share)} {share:.0%}"
    names = ("settled", "reserved", "left", "most", "configured", "granted", "handed_over")
    rows = [(name.replace("_", " "), f"{found[name]} {found['unit']}") for name in names if name in found]
    rows += [("period", found["period"])] if found["period"] else []
    rows += [("ends", found["ends"])] if "ends" in found else []
    rows += [("grant", f"{grant['amount']} until {grant['until']}") for grant in found["grants"]]
    text = f"{head}\n{table(rows)}\netag  {found['etag']}"
    if found["adjustments"]:
        history = [("TIME", "ACT", "AMOUNT", "BY", "WHY"), *map(_adjustment_row, found["adjustments"])]
        text += "\n\n" + table(history)
    return text


def _adjustment_row(one: dict[str, Any]) -> Sequence[str]:
    much = one.get("most") or one.get("granted") or one.get("forgiven") or "the budget's"
    return one["time"], one["action"].removeprefix("budget."), much, one["by"], one.get("why", "")
