"""The pages that the gateway makes itself: the status page and the log-in. No script, no external resource.

Everything shown is escaped here; the one style sheet is allowed by its hash, so the Content-Security-Policy names no
source but that. What a caller wrote (names, paths, reasons) gets in through `_text` only.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from gateway.core.canonical import Json

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 600; } .no { color: #b3261e; } .yes { color: #1a7f37; } code { font-size: .9em; }
input { font: inherit; padding: .4rem; width: 28rem; max-width: 100%; } button { font: inherit; padding: .4rem 1rem; }
@media (prefers-color-scheme: dark) { .no { color: #ff8a80; } .yes { color: #7ee2a8; } }
"""
_DIFFERENCE_COLUMNS = ("count", "last", "in force", "shadow", "subject", "action", "resource")
_RECORD_COLUMNS = ("seq", "time", "kind", "subject", "action", "resource", "result")
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


def status_page(
    status: Mapping[str, Json],
    routes: Sequence[Mapping[str, Json]],
    records: Iterable[Mapping[str, Json]],
    differences: Sequence[Mapping[str, Json]] = (),
) -> str:
    """What an operator looks at first: ready or not, what is active, the ways in, what happened last."""
    ready = status.get("ready") is True
    word = '<strong class="yes">ready</strong>' if ready else '<strong class="no">not ready</strong>'
    facts = "".join(f"<tr><th>{_text(name)}</th><td>{_text(_flat(value))}</td></tr>" for name, value in status.items())
    ways = "".join(
        _row(
            [
                route.get("name"),
                route.get("path") or "/",
                route.get("host", ""),
                route.get("protocol"),
                route.get("upstream"),
                route.get("auth"),
            ]
        )
        for route in routes
    )
    rows = "".join(_record(record) for record in records)
    return _page(
        "Tollgate",
        f"<h1>Tollgate is {word}</h1>{_reporting(status)}<table>{facts}</table>"
        f"<h2>Routes</h2><table>{_head('name', 'path', 'host', 'protocol', 'upstream', 'auth')}{ways}</table>"
        f"{_differences(differences)}"
        f"<h2>Latest records</h2><table>{_head(*_RECORD_COLUMNS)}{rows}</table>"
        '<h2>More</h2><p><a href="/api/v1/records">records</a> · <a href="/api/v1/checkpoint">checkpoint</a> ·'
        ' <a href="/metrics">metrics</a> · <a href="/api/v1/openapi.json">API description</a></p>'
        '<form method="post" action="/logout"><button>Log out</button></form>',
    )


def login_page(said: str = "") -> str:
    return _page(
        "Tollgate: log in",
        "<h1>Tollgate</h1>"
        + (f'<p class="no">{_text(said)}</p>' if said else "")
        + '<form method="post" action="/login"><p><label>Admin token<br>'
        '<input type="password" name="token" autocomplete="off" required autofocus></label></p>'
        "<button>Log in</button></form>"
        "<p>The token stands in the file that <code>admin.token</code> names.</p>",
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )


def _reporting(status: Mapping[str, Json]) -> str:
    policy = status.get("policy")
    if not isinstance(policy, dict) or policy.get("mode") != "report":
        return ""
    return '<p class="no"><strong>Report mode: nothing that policy denies is refused.</strong></p>'


def _differences(differences: Sequence[Mapping[str, Json]]) -> str:
    """What a shadow engine said differently; nothing where it did not."""
    if not differences:
        return ""
    rows = "".join(_difference(item) for item in differences)
    more = '<p><a href="/api/v1/shadow">all that are kept</a></p>'
    return f"<h2>What the shadow policy says differently</h2><table>{_head(*_DIFFERENCE_COLUMNS)}{rows}</table>{more}"


def _difference(item: Mapping[str, Json]) -> str:
    resource = item.get("resource")
    thing = resource.get("id") if isinstance(resource, dict) else ""
    said = [_decided(item.get(name)) for name in ("enforced", "shadow")]
    return _row([item.get("count"), item.get("last"), *said, item.get("subject"), item.get("action"), thing])


def _decided(decision: Json) -> str:
    if not isinstance(decision, dict):
        return ""
    rule = decision.get("rule")
    return f"{decision.get('effect')} ({rule})" if rule else f"{decision.get('effect')}"


def _record(record: Mapping[str, Json]) -> str:
    refusal, subject, resource = record.get("refusal"), record.get("subject"), record.get("resource")
    said = refusal.get("reason") if isinstance(refusal, dict) else record.get("result", "")
    who = subject.get("id") if isinstance(subject, dict) else ""
    thing = resource.get("id") if isinstance(resource, dict) else ""
    return _row([record.get("seq"), record.get("time"), record.get("kind"), who, record.get("action", ""), thing, said])


def _head(*names: str) -> str:
    return "<tr>" + "".join(f"<th>{_text(name)}</th>" for name in names) + "</tr>"


def _row(values: Iterable[Json]) -> str:
    return "<tr>" + "".join(f"<td>{_text(_flat(value))}</td>" for value in values) + "</tr>"


def _flat(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_flat(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(item) for item in value)
    return "" if value is None else str(value)


def _text(value: str) -> str:
    """Escaped, with what would reorder or hide text (bidi and control characters) shown as a mark."""
    shown = "".join(mark if mark.isprintable() or mark == " " else "\ufffd" for mark in value)
    return escape(shown, quote=True)
