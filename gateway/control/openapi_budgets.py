"""What openapi.py says of limits, budgets, accounts, prices and usage; the routes are budgets.py's and their likes'."""

from __future__ import annotations

from gateway.core.canonical import Json
from gateway.core.usage import COUNTS, DIMENSIONS, ROWS_MOST

_TEXT: Json = {"type": "string"}
_DATE: Json = {"type": "string", "format": "date-time"}
_AMOUNT: dict[str, Json] = {"type": "string", "description": "a decimal string in the budget's unit"}
_BOXES: dict[str, Json] = dict.fromkeys(("most", "granted", "reserved", "settled", "left"), _AMOUNT)
_VALUES: Json = {
    "type": "array",
    "items": {"type": ["string", "null"]},
    "description": "the values of the budget's key; null where the caller has none",
}
_NAME: Json = {"name": "name", "in": "path", "required": True, "schema": _TEXT, "description": "the budget's"}
_REFUSED: Json = {"$ref": "#/components/responses/Problem"}
_PATH = "/api/v1/budgets/{name}"


def paths() -> dict[str, Json]:
    account = _ref("Account")
    return {
        "/api/v1/limits": {"get": _read("The limits in force", _list("limits", {"type": "object"}))},
        "/api/v1/budgets": {"get": _read("The budgets in force, with their running period", _ref("Budgets"))},
        _PATH: {
            "get": _read(
                "A budget's accounts in its running period, with their balances",
                _ref("Accounts"),
                _NAME,
                _query("find", _TEXT, "only accounts whose key, as a JSON array, contains this"),
                _query("cursor", _TEXT, "`next` of the page before"),
                _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "accounts per page"),
            )
        },
        f"{_PATH}/account": {
            "get": _read(
                "One account: its balance, its grants, what was done to it",
                account,
                _NAME,
                _query("key", _TEXT, 'the values of its key as a JSON array, as in ["acme"]', required=True),
                _query("period", _DATE, "when a period that is over began; the running one where it is left out"),
            ),
            "put": _change("Set its amount, from now on", "SetAmount"),
            "post": _change("Top up, grant until a time, or reset", "AdjustAccount"),
        },
        "/api/v1/usage": {"get": _usage()},
        "/api/v1/prices": {"get": _read("The price list in force", _ref("Prices"))},
    }


def schemas() -> dict[str, Json]:
    settings: dict[str, Json] = {
        "name": _TEXT, "key": {"type": "array", "items": _TEXT}, "unit": {"enum": ["usd", "tokens", "calls", "bytes"]},
        "amount": _AMOUNT, "period": {"enum": ["hour", "day", "month", "rolling", "total"]},
        "unpriced": {"enum": ["deny", "allow"]}, "warn_at": {"type": "array", "items": _TEXT}, "zone": _TEXT,
        "anchor": {"type": "integer"}, "carry": _TEXT,
        "window": {"type": "integer", "description": "seconds, of a rolling period"}, "begins": _DATE, "ends": _DATE,
    }  # fmt: skip
    page: dict[str, Json] = {
        "budget": _ref("Budget"),
        "accounts": {"type": "array", "items": _object({"key": _VALUES, **_BOXES}, "key", *_BOXES)},
        "next": {"type": ["string", "null"], "description": "`cursor` of the next page"},
    }
    most: Json = {"type": ["string", "null"], "description": "a decimal string in its unit; null: the budget's own"}
    why: dict[str, Json] = {"why": {"type": "string", "maxLength": 1000}}
    act: dict[str, Json] = {"act": {"enum": ["top-up", "grant", "reset"]}, "amount": _AMOUNT, "until": _DATE}
    return {
        "Budget": _object(settings, "name", "key", "unit", "amount", "period"),
        "Budgets": _object(
            {
                "budgets": {"type": "array", "items": _ref("Budget")},
                "shared": {"type": "boolean", "description": "balances are of several gateways together"},
            },
            "budgets",
            "shared",
        ),
        "Accounts": _object(page, *page),
        "SetAmount": _object({"key": _VALUES, "amount": most, **why}, "key", "amount"),
        "AdjustAccount": _object({"key": _VALUES, **act, **why}, "key", "act"),
        **_account(),
        "Usage": _summed(),
    }


def _account() -> dict[str, Json]:
    adjustment: dict[str, Json] = {
        "seq": {"type": "integer", "description": "of its record"}, "id": _TEXT, "time": _DATE,
        "action": {"enum": ["budget.set", "budget.top-up", "budget.grant", "budget.reset"]}, "by": _TEXT,
        "period": _TEXT, "most": _AMOUNT, "granted": _AMOUNT, "until": _DATE, "forgiven": _AMOUNT, "why": _TEXT,
    }  # fmt: skip
    grant: Json = _object({"amount": _AMOUNT, "until": _DATE}, "amount", "until")
    account: dict[str, Json] = {
        "budget": _TEXT, "unit": _TEXT, "period": {"type": "string", "description": "when it began; empty for none"},
        "key": _VALUES, **_BOXES, "configured": {**_AMOUNT, "description": "the budget's own amount"},
        "handed_over": {**_AMOUNT, "description": "what the period before left; it is part of granted"},
        "ends": _DATE, "grants": {"type": "array", "items": grant, "description": "those that end before the period"},
        "adjustments": {"type": "array", "items": _ref("Adjustment"), "description": "newest first"},
        "etag": {"type": "string", "description": "for If-Match"},
    }  # fmt: skip
    return {
        "Adjustment": _object(adjustment, "seq", "id", "time", "action", "by"),
        "Account": _object(account, "budget", "unit", "period", "key", "configured", *_BOXES, "adjustments", "etag"),
    }


def _summed() -> Json:
    counts: dict[str, Json] = {name: {"type": "integer"} for name in COUNTS}
    counts["usd"] = {"type": "string", "description": "a decimal string"}
    row: Json = {
        "type": "object",
        "required": ["calls", "usd"],
        "properties": {**dict.fromkeys(DIMENSIONS, _TEXT), **counts},
        "description": "the values that were asked by, and what is not 0",
    }
    found: dict[str, Json] = {
        "by": {"type": "array", "items": _TEXT},
        "rows": {"type": "array", "items": row},
        "total": row,
        "next": {"type": ["integer", "null"], "description": "`cursor` of the next page"},
        "size": {"type": "integer", "description": "how many records of the log are counted"},
    }
    return _object(found, *found)


def _usage() -> Json:
    named = ", ".join(DIMENSIONS)
    day: Json = {"type": "string", "format": "date"}
    found = _read(
        "What was used, summed up",
        _ref("Usage"),
        _query("by", _TEXT, f"commas between: {named}"),
        _query("from", day, "the first day of UTC"),
        _query("to", day, "the last day, included"),
        *(_query(name, _TEXT, "only this one") for name in DIMENSIONS),
        _query("format", {"enum": ["json", "csv"]}, "csv for a spreadsheet; x-next-cursor says whether there is more"),
        _query("cursor", {"type": "integer", "minimum": 0}, "`next` of the page before"),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": ROWS_MOST}, "rows per page"),
    )
    found["responses"]["200"]["content"]["text/csv"] = {"schema": _TEXT}  # type: ignore[index,call-overload]
    return found


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Json], *required: str) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(name: str, items: Json) -> Json:
    return _object({name: {"type": "array", "items": items}}, name)


def _query(name: str, schema: Json, text: str, *, required: bool = False) -> Json:
    found: dict[str, Json] = {"name": name, "in": "query", "description": text, "schema": schema}
    return found | {"required": True} if required else found


def _responses(summary: str, schema: Json, *codes: str) -> dict[str, Json]:
    found: dict[str, Json] = {"200": {"description": summary, "content": {"application/json": {"schema": schema}}}}
    return found | dict.fromkeys(("400", "401", "403", "404", "503", *codes), _REFUSED)


def _read(summary: str, schema: Json, *parameters: Json) -> dict[str, Json]:
    found: dict[str, Json] = {
        "summary": summary,
        "responses": {
            **_responses(summary, schema),
            "304": {"description": "The ETag in If-None-Match is still right"},
        },
    }
    if parameters:
        found["parameters"] = list(parameters)
    return found


def _change(summary: str, body: str) -> Json:
    match: Json = {
        "name": "If-Match", "in": "header", "schema": _TEXT,
        "description": "the account's etag; 412 where it moved on",
    }  # fmt: skip
    late = "It is recorded, and counts as soon as the counters answer"
    return {
        "summary": summary,
        "parameters": [_NAME, match],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {
            **_responses(summary, _ref("Account"), "412"),
            "202": {"description": late, "content": {"application/json": {"schema": {"type": "object"}}}},
        },
    }
