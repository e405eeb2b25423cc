"""The actions that requests to each protocol have, as policy and records name them.

What `routes[].action_scopes` may name: a name that is not here would never apply, and what it was meant to ask for
would not be asked. The protocols have their own tables, which may not be imported here; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

_MCP = (
    "completion/complete", "elicitation/create", "initialize", "logging/setLevel", "notifications/cancelled",
    "notifications/initialized", "notifications/progress", "notifications/roots/list_changed",
    "notifications/tasks/status", "ping", "prompts/get", "prompts/list", "resources/list", "resources/read",
    "resources/subscribe", "resources/templates/list", "resources/unsubscribe", "roots/list", "sampling/createMessage",
    "server/discover", "session.end", "stream.open", "subscriptions/listen", "tasks/cancel", "tasks/get", "tasks/list",
    "tasks/result", "tasks/update", "tools/call", "tools/list",
)  # fmt: skip
_A2A = (
    "CancelTask", "CreateTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig", "GetAgentCard",
    "GetExtendedAgentCard", "GetTask", "GetTaskPushNotificationConfig", "ListTaskPushNotificationConfigs", "ListTasks",
    "SendMessage", "SendStreamingMessage", "SubscribeToTask",
)  # fmt: skip
# IANA's registry of methods.
_METHODS = (
    "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL",
    "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS",
    "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH",
    "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
)  # fmt: skip


def _named(family: str, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"{family}.{name}" for name in names)


_HTTP = _named("http", _METHODS)
_WS = _named("ws", ("open", "message"))
_LLM = _named("llm", ("chat", "count_tokens", "models"))

ACTIONS: Final[Mapping[str, frozenset[str]]] = {
    "mcp": _named("mcp", _MCP),
    "a2a": _named("a2a", _A2A) | _HTTP,
    "openai": _LLM | _named("llm", ("embeddings",)) | _HTTP | _WS,
    "anthropic": _LLM | _HTTP | _WS,
    "http": _HTTP | _WS,
}


def meant(action: str, protocol: str) -> str:
    """What somebody may write instead."""
    known = ACTIONS[protocol]
    folded = {name.lower(): name for name in sorted(known)}
    near = get_close_matches(action.lower(), folded, 1)
    families = sorted({name.partition(".")[0] for name in known})
    return f"did you mean {folded[near[0]]}?" if near else f"write {' or '.join(f'{family}...' for family in families)}"
