"""What openapi.py says of limits, budgets, accounts, prices and usage; the routes are budgets.py's and their likes'."""

from __future__ import annotations

from gateway.control.openapi_words import DATE, TEXT, body, members, query, read, ref, responses, said
from gateway.core.canonical import Json
from gateway.core.usage import COUNTS, DIMENSIONS, ROWS_MOST

_AMOUNT: dict[str, Json] = {"type": "string", "description": "a decimal string in the budget's unit"}
_BOXES: dict[str, Json] = dict.fromkeys(("most", "granted", "reserved", "settled", "left"), _AMOUNT)
_VALUES: Json = {
    "type": "array",
    "items": {"type": ["string", "null"]},
    "description": "the values of the budget's key; null where the caller has none",
}
_NAME: Json = {"name": "name", "in": "path", "required": True, "schema": TEXT, "description": "the budget's"}
_PATH = "/api/v1/budgets/{name}"


def paths() -> dict[str, Json]:
    account = ref("Account")
    return {
        "/api/v1/limits": {"get": read("The limits in force", _list("limits", {"type": "object"}))},
        "/api/v1/budgets": {"get": read("The budgets in force, with their running period", ref("Budgets"))},
        _PATH: {
            "get": read(
                "A budget's accounts in its running period, with their balances",
                ref("Accounts"),
                _NAME,
                query("find", TEXT, "only accounts whose key, as a JSON array, contains this"),
                query("cursor", TEXT, "`next` of the page before"),
                query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "accounts per page"),
            )
        },
        f"{_PATH}/account": {
            "get": read(
                "One account: its balance, its grants, what was done to it",
                account,
                _NAME,
                query("key", TEXT, 'the values of its key as a JSON array, as in ["acme"]', required=True),
                query("period", DATE, "when a period that is over began; the running one where it is left out"),
            ),
            "put": _change("Set its amount, from now on", "SetAmount"),
            "post": _change("Top up, grant until a time, or reset", "AdjustAccount"),
        },
        "/api/v1/usage": {"get": _usage()},
        "/api/v1/prices": {"get": read("The price list in force", ref("Prices"))},
    }


def schemas() -> dict[str, Json]:
    settings: dict[str, Json] = {
        "name": TEXT, "key": {"type": "array", "items": TEXT}, "unit": {"enum": ["usd", "tokens", "calls", "bytes"]},
        "amount": _AMOUNT, "period": {"enum": ["hour", "day", "month", "rolling", "total"]},
        "unpriced": {"enum": ["deny", "allow"]}, "warn_at": {"type": "array", "items": TEXT}, "zone": TEXT,
        "anchor": {"type": "integer"}, "carry": TEXT,
        "window": {"type": "integer", "description": "seconds, of a rolling period"}, "begins": DATE, "ends": DATE,
    }  # fmt: skip
    page: dict[str, Json] = {
        "budget": ref("Budget"),
        "accounts": {"type": "array", "items": members({"key": _VALUES, **_BOXES}, "key", *_BOXES)},
        "next": {"type": ["string", "null"], "description": "`cursor` of the next page"},
    }
    most: Json = {"type": ["string", "null"], "description": "a decimal string in its unit; null: the budget's own"}
    why: dict[str, Json] = {"why": {"type": "string", "maxLength": 1000}}
    act: dict[str, Json] = {"act": {"enum": ["top-up", "grant", "reset"]}, "amount": _AMOUNT, "until": DATE}
    return {
        "Budget": members(settings, "name", "key", "unit", "amount", "period"),
        "Budgets": members(
            {
                "budgets": {"type": "array", "items": ref("Budget")},
                "shared": {"type": "boolean", "description": "balances are of several gateways together"},
            },
            "budgets",
            "shared",
        ),
        "Accounts": members(page, *page),
        "SetAmount": members({"key": _VALUES, "amount": most, **why}, "key", "amount"),
        "AdjustAccount": members({"key": _VALUES, **act, **why}, "key", "act"),
        **_account(),
        "Usage": _summed(),
    }


def _account() -> dict[str, Json]:
    adjustment: dict[str, Json] = {
        "seq": {"type": "integer", "description": "of its record"}, "id": TEXT, "time": DATE,
        "action": {"enum": ["budget.set", "budget.top-up", "budget.grant", "budget.reset"]}, "by": TEXT,
        "period": TEXT, "most": _AMOUNT, "granted": _AMOUNT, "until": DATE, "forgiven": _AMOUNT, "why": TEXT,
    }  # fmt: skip
    grant: Json = members({"amount": _AMOUNT, "until": DATE}, "amount", "until")
    account: dict[str, Json] = {
        "budget": TEXT, "unit": TEXT, "period": {"type": "string", "description": "when it began; empty for none"},
        "key": _VALUES, **_BOXES, "configured": {**_AMOUNT, "description": "the budget's own amount"},
        "handed_over": {**_AMOUNT, "description": "what the period before left; it is part of granted"},
        "ends": DATE, "grants": {"type": "array", "items": grant, "description": "those that end before the period"},
        "adjustments": {"type": "array", "items": ref("Adjustment"), "description": "newest first"},
        "etag": {"type": "string", "description": "for If-Match"},
    }  # fmt: skip
    return {
        "Adjustment": members(adjustment, "seq", "id", "time", "action", "by"),
        "Account": members(account, "budget", "unit", "period", "key", "configured", *_BOXES, "adjustments", "etag"),
    }


def _summed() -> Json:
    counts: dict[str, Json] = {name: {"type": "integer"} for name in COUNTS}
    counts["usd"] = {"type": "string", "description": "a decimal string"}
    row: Json = {
        "type": "object",
        "required": ["calls", "usd"],
        "properties": {**dict.fromkeys(DIMENSIONS, TEXT), **counts},
        "description": "the values that were asked by, and what is not 0",
    }
    found: dict[str, Json] = {
        "by": {"type": "array", "items": TEXT},
        "rows": {"type": "array", "items": row},
        "total": row,
        "next": {"type": ["integer", "null"], "description": "`cursor` of the next page"},
        "size": {"type": "integer", "description": "how many records of the log are counted"},
    }
    return members(found, *found)


def _usage() -> Json:
    named = ", ".join(DIMENSIONS)
    day: Json = {"type": "string", "format": "date"}
    found = read(
        "What was used, summed up",
        ref("Usage"),
        query("by", TEXT, f"commas between: {named}"),
        query("from", day, "the first day of UTC"),
        query("to", day, "the last day, included"),
        *(query(name, TEXT, "only this one") for name in DIMENSIONS),
        query("format", {"enum": ["json", "csv"]}, "csv for a spreadsheet; x-next-cursor says whether there is more"),
        query("cursor", {"type": "integer", "minimum": 0}, "`next` of the page before"),
        query("limit", {"type": "integer", "minimum": 1, "maximum": ROWS_MOST}, "rows per page"),
    )
    found["responses"]["200"]["content"]["text/csv"] = {"schema": TEXT}  # type: ignore[index,call-overload]
    return found


def _list(name: str, items: Json) -> Json:
    return members({name: {"type": "array", "items": items}}, name)


def _change(summary: str, sent: str) -> Json:
    match: Json = {
        "name": "If-Match", "in": "header", "schema": TEXT,
        "description": "the account's etag; 412 where it moved on",
    }  # fmt: skip
    late = "It is recorded, and counts as soon as the counters answer"
    return {
        "summary": summary,
        "parameters": [_NAME, match],
        "requestBody": body(ref(sent)),
        "responses": {
            **responses(summary, ref("Account"), "412"),
            "202": said(late, {"type": "object"}),
        },
    }
