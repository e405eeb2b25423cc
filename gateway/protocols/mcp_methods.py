"""What MCP can ask, in both eras, as tables: method to action, object, mirrored header and kind of list.

The rule it keeps: what is not in a table is unknown, and unknown is never forwarded. Sources: the published schemas of
2024-11-05 to 2025-11-25 (legacy: a session, server requests on event streams) and of 2026-07-28 (modern: every request
for itself), and the tasks extension of the modern era. It must never look at a value that policy does not see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.core.canonical import Json
from gateway.core.exchange import Header
from gateway.core.reasons import Malformed

LEGACY = "legacy"
MODERN = "modern"

LEGACY_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
MODERN_VERSIONS = ("2026-07-28",)  # in the order in which an unsupported version is told of them

_DOTS = re.compile(r"^[^?#]*(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:[/\\?#]|%2f|%5c|$)", re.IGNORECASE)

VERSION_META = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_META = "io.modelcontextprotocol/clientCapabilities"

TASKS_EXTENSION = "io.modelcontextprotocol/tasks"
DISCOVER = "mcp.server/discover"

MAX_TOPICS = 100  # each is looked up before the subscription opens


class Object(StrEnum):
    """Which member of `params` names what is acted on."""

    NONE = "none"
    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    REFERENCE = "reference"  # completion: a prompt or a resource
    TASK = "task"
    TOPICS = "topics"  # subscriptions/listen: resources and tasks


@dataclass(frozen=True, slots=True)
class Method:
    """`named` is the member of `params` that `Mcp-Name` mirrors, `must_name` whether the header has to be there;
    `mirror` is the `Mcp-Method` header of the method. `calls` is the type of what is called by its `name` with
    `arguments`, "" where nothing is; `tasks` whether params name tasks; `metered` whether a price may be said in the
    answer."""

    name: str
    object: Object = Object.NONE
    listing: str = ""
    named: str = ""
    must_name: bool = False
    idempotent: bool = False
    stream: bool = False
    action: str = field(init=False)
    mirror: Header = field(init=False)
    calls: str = field(init=False)
    tasks: bool = field(init=False)
    metered: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", "mcp." + self.name)
        object.__setattr__(self, "mirror", (b"mcp-method", self.name.encode()))
        object.__setattr__(self, "calls", str(self.object) if self.object in (Object.TOOL, Object.PROMPT) else "")
        object.__setattr__(self, "metered", self.name in ("tools/call", "prompts/get", "resources/read"))
        object.__setattr__(self, "tasks", self.object in (Object.TASK, Object.TOPICS))


@dataclass(frozen=True, slots=True)
class List:
    """A list that is filtered: what it is called here, the member of the result, the member that names an item, and
    what calling an item is."""

    name: str
    member: str
    key: str
    action: str
    resource_type: str


LISTS: Mapping[str, List] = {
    "tools": List("tools", "tools", "name", "mcp.tools/call", "tool"),
    "prompts": List("prompts", "prompts", "name", "mcp.prompts/get", "prompt"),
    "resources": List("resources", "resources", "uri", "mcp.resources/read", "resource"),
    "templates": List("templates", "resourceTemplates", "uriTemplate", "mcp.resources/read", "resource"),
}
LIST_CHANGED = frozenset(f"notifications/{name}/list_changed" for name in ("tools", "prompts", "resources"))
TASKS = "tasks"  # the legacy list of tasks: filtered by owner, not by policy


def _table(*methods: Method) -> dict[str, Method]:
    return {method.name: method for method in methods}


_BOTH = (
    Method("tools/list", listing="tools", idempotent=True),
    Method("tools/call", object=Object.TOOL, named="name", must_name=True),
    Method("prompts/list", listing="prompts", idempotent=True),
    Method("prompts/get", object=Object.PROMPT, named="name", must_name=True),
    Method("resources/list", listing="resources", idempotent=True),
    Method("resources/templates/list", listing="templates", idempotent=True),
    Method("resources/read", object=Object.RESOURCE, named="uri", must_name=True, idempotent=True),
    Method("completion/complete", object=Object.REFERENCE, idempotent=True),
    Method("tasks/get", object=Object.TASK, named="taskId", idempotent=True),
    Method("tasks/cancel", object=Object.TASK, named="taskId"),
)

REQUESTS: Final[dict[str, dict[str, Method]]] = {
    LEGACY: _table(
        *_BOTH,
        Method("initialize"),
        Method("ping", idempotent=True),
        Method("logging/setLevel"),
        Method("resources/subscribe", object=Object.RESOURCE),
        Method("resources/unsubscribe", object=Object.RESOURCE),
        Method("tasks/list", listing=TASKS, idempotent=True),
        Method("tasks/result", object=Object.TASK, stream=True),
    ),
    MODERN: _table(
        *_BOTH,
        Method("server/discover", idempotent=True),
        Method("subscriptions/listen", object=Object.TOPICS, stream=True),
        Method("tasks/update", object=Object.TASK, named="taskId"),
    ),
}

NOTIFICATIONS: Final[dict[str, dict[str, Method]]] = {
    LEGACY: _table(
        Method("notifications/cancelled"),
        Method("notifications/initialized"),
        Method("notifications/progress"),
        Method("notifications/roots/list_changed"),
        Method("notifications/tasks/status"),
    ),
    MODERN: _table(Method("notifications/cancelled")),
}

# What a server may ask of a client: as requests of its own (legacy) or inside a result (modern).
SERVER_REQUESTS: Mapping[str, frozenset[str]] = {
    LEGACY: frozenset(
        {
            "ping",
            "roots/list",
            "sampling/createMessage",
            "elicitation/create",
            "tasks/get",
            "tasks/result",
            "tasks/list",
            "tasks/cancel",
        }
    ),
    MODERN: frozenset({"roots/list", "sampling/createMessage", "elicitation/create"}),
}

# Members of `params` that this gateway or an upstream acts on. A name that differs from one of them in case only is
# refused: readers that ignore case would take it for the member that policy never saw.
_MEMBERS: Final = frozenset(
    {
        "_meta", "argument", "arguments", "capabilities", "clientInfo", "context", "cursor", "error", "inputResponses",
        "level", "message", "name", "notifications", "progress", "progressToken", "protocolVersion", "reason", "ref",
        "requestId", "requestState", "resourceSubscriptions", "status", "task", "taskId", "taskIds", "total", "ttl",
        "type", "uri",
    }
)  # fmt: skip
_FOLDED = frozenset(name.casefold() for name in _MEMBERS)


def check_names(members: dict[str, Json]) -> None:
    """Raises Malformed for a member whose name a reader that ignores case would take for another."""
    for name in members:
        if name not in _MEMBERS and name.casefold() in _FOLDED:
            raise Malformed(f"a member of params is misspelled: {name[:40]!r}")


def resource(method: Method, params: dict[str, Json], upstream: str) -> tuple[str, str]:
    """(type, id) of what is acted on (ruling 15). Raises Malformed where params do not say."""
    if method.calls:
        return method.calls, f"{upstream}/{text(params, 'name')}"
    kind = method.object
    if kind is Object.RESOURCE:
        return "resource", _uri(params)
    if kind is Object.REFERENCE:
        return _reference(params, upstream)
    return "endpoint", upstream


def tasks(method: Method, params: dict[str, Json]) -> tuple[str, ...]:
    """The ids of the tasks that params name. Raises Malformed."""
    if method.object is Object.TASK:
        return (text(params, "taskId"),)
    topics = params.get("notifications")
    if not isinstance(topics, dict):
        raise Malformed("params.notifications must be an object")
    check_names(topics)
    _texts(topics, "resourceSubscriptions")
    return _texts(topics, "taskIds")


def text(members: dict[str, Json], name: str) -> str:
    """A member that must be a string with something in it."""
    found = members.get(name)
    if type(found) is not str or not found:
        raise Malformed(f"params.{name} must be a string")
    return found


def _uri(members: dict[str, Json]) -> str:
    """The URI of a resource. One that walks upwards is refused: a rule on its beginning would say nothing of where
    the upstream ends up."""
    found = text(members, "uri")
    if _DOTS.search(found) is not None:
        raise Malformed("a resource's URI has no dot segments")
    return found


def _texts(members: dict[str, Json], name: str) -> tuple[str, ...]:
    found = members.get(name, [])
    if not isinstance(found, list) or len(found) > MAX_TOPICS:
        raise Malformed(f"{name} must be a list of at most {MAX_TOPICS} strings")
    texts = tuple(item for item in found if isinstance(item, str))
    if len(texts) != len(found):
        raise Malformed(f"{name} must be a list of strings")
    return texts


def _reference(params: dict[str, Json], upstream: str) -> tuple[str, str]:
    reference = params.get("ref")
    if not isinstance(reference, dict):
        raise Malformed("params.ref must be an object")
    check_names(reference)
    if reference.get("type") == "ref/prompt":
        return "prompt", f"{upstream}/{text(reference, 'name')}"
    if reference.get("type") == "ref/resource":
        return "resource", _uri(reference)
    raise Malformed("params.ref.type must be ref/prompt or ref/resource")
