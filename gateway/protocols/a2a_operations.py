"""What an A2A request asks: the operations of both versions and both HTTP bindings, and the tasks they name.

1. Only what stands in a table is an operation; everything else is unknown and not forwarded. 2. A path that two
servers could read as two operations is unknown. 3. A task is found under every spelling a server may accept (`taskId`,
`task_id`), and one that only a careless server would accept is refused: no id reaches the agent that was not looked up.
4. Path, query and body that name one thing differently are refused.
Operations of HTTP+JSON are recognised at the end of the path: what stands before is a tenant, a mount point or both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote

from gateway.core.canonical import Json
from gateway.core.exchange import Call, Handle
from gateway.core.reasons import Malformed
from gateway.protocols.http import canonical_path

TASK = "a2a-task"  # `Handle.kind`
CONTEXT = "a2a-context"
QUERY_MEMBERS = 100  # more than any operation has


@dataclass(frozen=True, slots=True)
class Operation:
    """`task` is the canonical name of the params member that is a task's id ("" where there is none). `message`: it
    sends one, so it may name tasks inside and its answer may mint one. `card`, `tasks`: what its answer shows;
    `original`: the card as it came from the agent."""

    name: str
    task: str = ""
    message: bool = False
    card: bool = False
    original: bool = False
    tasks: bool = False
    stream: bool = False
    reads: bool = False  # asks without changing anything


SEND = Operation("SendMessage", message=True)
STREAM = Operation("SendStreamingMessage", message=True, stream=True)
GET = Operation("GetTask", task="id", reads=True)
LIST = Operation("ListTasks", tasks=True, reads=True)
CANCEL = Operation("CancelTask", task="id")
SUBSCRIBE = Operation("SubscribeToTask", task="id", stream=True)
CREATE_PUSH = Operation("CreateTaskPushNotificationConfig", task="taskId")
GET_PUSH = Operation("GetTaskPushNotificationConfig", task="taskId", reads=True)
LIST_PUSH = Operation("ListTaskPushNotificationConfigs", task="taskId", reads=True)
DELETE_PUSH = Operation("DeleteTaskPushNotificationConfig", task="taskId")
EXTENDED_CARD = Operation("GetExtendedAgentCard", card=True, reads=True)
CARD = Operation("GetAgentCard", card=True, reads=True)

METHODS: Mapping[str, Operation] = {
    item.name: item
    for item in (SEND, STREAM, GET, LIST, CANCEL, SUBSCRIBE, CREATE_PUSH, GET_PUSH, LIST_PUSH, DELETE_PUSH)
} | {
    EXTENDED_CARD.name: EXTENDED_CARD,
    # v0.3; there the params of three push operations call the task `id`
    "message/send": SEND,
    "message/stream": STREAM,
    "tasks/get": GET,
    "tasks/cancel": CANCEL,
    "tasks/resubscribe": SUBSCRIBE,
    "tasks/pushNotificationConfig/set": CREATE_PUSH,
    "tasks/pushNotificationConfig/get": replace(GET_PUSH, task="id"),
    "tasks/pushNotificationConfig/list": replace(LIST_PUSH, task="id"),
    "tasks/pushNotificationConfig/delete": replace(DELETE_PUSH, task="id"),
    "agent/getAuthenticatedExtendedCard": EXTENDED_CARD,
}

_CARD_PATH = {"GET": CARD, "HEAD": CARD}
_EXTENDED_PATH = {"GET": EXTENDED_CARD}
_SIMPLE_PATHS = {
    "message:send": {"POST": SEND},
    "message:stream": {"POST": STREAM},
    "tasks": {"GET": LIST},
    "extendedAgentCard": _EXTENDED_PATH,
}
_TASK_PATH = {"GET": GET}
_VERBS = {"cancel": {"POST": CANCEL}, "subscribe": {"POST": SUBSCRIBE, "GET": SUBSCRIBE}}
_PUSH_PATH = {"POST": CREATE_PUSH, "GET": LIST_PUSH}
_PUSH_ITEM_PATH = {"GET": GET_PUSH, "DELETE": DELETE_PUSH}

# Members a server may match by a careless reading of their names, by that reading: exact ones are camelCase (JSON of
# both versions) and snake_case (which ProtoJSON accepts as well).
_SPELLINGS = {
    name: camel
    for camel in (
        *(
            "id",
            "taskId",
            "contextId",
            "messageId",
            "message",
            "request",
            "configuration",
            "tenant",
            "metadata",
            "role",
        ),
        *("parts", "extensions", "referenceTaskIds", "taskPushNotificationConfig", "pushNotificationConfig", "parent"),
    )
    for name in (camel, "".join("_" + mark.lower() if mark.isupper() else mark for mark in camel))
}
_CARELESS = {name.replace("_", "").casefold() for name in _SPELLINGS}


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the HTTP+JSON binding: its operations by HTTP method, what stands before, and the ids it names."""

    methods: Mapping[str, Operation]
    prefix: str = ""
    task: str = ""
    config: str = ""


_PUSH_MEMBERS = ("taskPushNotificationConfig", "pushNotificationConfig")
_ORIGINAL = replace(CARD, original=True)
ORIGINAL = Place({"GET": _ORIGINAL, "HEAD": _ORIGINAL})  # the gateway's own, where the route begins


def place(path: str) -> Place | None:
    """What a path below the route is: an operation of HTTP+JSON, the well-known card, or None for neither."""
    segments = canonical_path(path).split("/")[1:]
    found = _end(segments) if segments and all(segments[:-1]) else None
    if found is None:
        return None
    length, methods, task, config = found
    before = segments[:-length]
    if "tasks" in before:
        return None  # 2: the task `x` of the tenant `tasks`, or the operation below the task `tasks`?
    if before and before[-1] == "v1":
        before.pop()  # v0.3 has its version in the path
    try:
        return Place(methods, "/".join(before), unquote(task, errors="strict"), unquote(config, errors="strict"))
    except UnicodeDecodeError:
        return None


def _end(segments: list[str]) -> tuple[int, Mapping[str, Operation], str, str] | None:
    """How many segments the operation has, its methods, and the raw ids in it."""
    last = segments[-1]
    if last in _SIMPLE_PATHS:
        return 1, _SIMPLE_PATHS[last], "", ""
    if last == "card" and segments[-2:-1] == ["v1"]:
        return 1, _EXTENDED_PATH, "", ""
    if last in ("agent-card.json", "agent.json") and segments[-2:-1] == [".well-known"]:
        return 2, _CARD_PATH, "", ""
    match segments[-4:]:
        case [*_, "tasks", task] if task:
            return _task(task)
        case [*_, "tasks", task, "pushNotificationConfigs"]:
            return 3, _PUSH_PATH, task, ""
        case ["tasks", task, "pushNotificationConfigs", config] if config:
            return 4, _PUSH_ITEM_PATH, task, config
    return None


def _task(segment: str) -> tuple[int, Mapping[str, Operation], str, str] | None:
    ident, _, verb = segment.rpartition(":")
    if ident and verb in _VERBS:
        return 2, _VERBS[verb], ident, ""
    if unquote(segment).rpartition(":")[2] in _VERBS:
        return None  # 2: some servers decode before they look for the verb
    return 2, _TASK_PATH, segment, ""


def may_be_rpc(path: str) -> bool:
    """Whether a path that is no `place` can be an agent's JSON-RPC endpoint. One that some server (decoding first,
    blind to case or to `;` parameters, with a tenant of its own) could take for an operation is neither (2)."""
    return not any(mark in path for mark in ":;%") and "/tasks/" not in path.casefold() + "/"


def arguments(found: Place, query: str, body: dict[str, Json]) -> dict[str, Json]:
    """What the operation is asked with, as one object: members of the query and the body, and the path's ids as `id`
    or `taskId`. Raises Malformed where two of them disagree (4). The tenant of the path is no argument."""
    members = _queried(query) if query else {}
    for name, item in body.items():
        if members.setdefault(name, item) != item:
            raise Malformed(f"query and body disagree on {name[:40]!r}")
    for name, ident in _path_ids(found):
        for spelling in (name, _snake(name)):
            if members.get(spelling, ident) not in (ident, "", None):
                raise Malformed(f"path and {spelling} name two different things")
            members.pop(spelling, None)
        members[name] = ident
    for name in ("parent", "name"):  # v0.3 names a task and what belongs to it by a path of their own
        there = members.get(name) if found.task else None
        if there and not (isinstance(there, str) and (there + "/").startswith(f"tasks/{found.task}/")):
            raise Malformed(f"path and {name} name two different tasks")
    return members


def _queried(query: str) -> dict[str, Json]:
    """The query's members; one that is there several times is a list."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_MEMBERS)
    except ValueError:
        raise Malformed("the query cannot be read") from None
    members: dict[str, Json] = {}
    for name, value in pairs:
        if name.casefold() == "a2a-version":
            continue
        if name in members:
            there = members[name]
            members[name] = [*there, value] if isinstance(there, list) else [there, value]
        else:
            members[name] = value
    return members


def _path_ids(found: Place) -> list[tuple[str, str]]:
    if not found.task:
        return []
    if found.config:
        return [("taskId", found.task), ("id", found.config)]
    return [("taskId" if found.methods is _PUSH_PATH else "id", found.task)]


def _snake(name: str) -> str:
    return "task_id" if name == "taskId" else name


def handles(operation: Operation, params: Mapping[str, Json]) -> tuple[Handle, ...]:
    """The tasks and the conversation a request names, each once. Raises Malformed for a name or id that could be read
    in two ways (3)."""
    named = _known(params)
    if operation.message:
        tasks, contexts = _message_names(named)
        return (*(Handle(TASK, ident) for ident in tasks), *map(context, contexts))
    if operation.tasks:
        contexts = []
        _add(contexts, named.get("contextId"))
        return tuple(map(context, contexts))
    if not operation.task:
        return ()
    ident = named.get(operation.task)
    if not isinstance(ident, str) or not ident:
        raise Malformed(f"{operation.task} must be the id of a task")
    if operation.task == "id" and named.get("taskId", ident) not in (ident, "", None):
        raise Malformed("id and taskId name two different tasks")
    return (Handle(TASK, ident),)


def context(ident: str) -> Handle:
    """A conversation: agents name it where callers did not."""
    return Handle(CONTEXT, ident, chosen=True)


def pushes(call: Call) -> bool:
    """Whether what comes of a call is sent to a webhook as well."""
    if call.action == "a2a." + CREATE_PUSH.name:
        return True
    if call.action not in ("a2a." + SEND.name, "a2a." + STREAM.name) or not isinstance(call.arguments, dict):
        return False
    configuration = _object(_known(call.arguments), "configuration")
    return any(configuration.get(name) is not None for name in _PUSH_MEMBERS)


def tenant(prefix: str, params: Mapping[str, Json]) -> str:
    """The tenant as the request says it: what stands before the operation in the path, else `params.tenant`."""
    named = params.get("tenant") or ""
    if not isinstance(named, str):
        raise Malformed("tenant must be a string")
    if named and prefix and named != prefix and named != prefix.rpartition("/")[2]:
        raise Malformed("path and tenant name two different tenants")
    return prefix or named


def _message_names(params: Mapping[str, Json]) -> tuple[list[str], list[str]]:
    """The tasks that a message names, and its conversation."""
    found: list[str] = []
    contexts: list[str] = []
    if "message" in params and "request" in params:
        raise Malformed("message and request are one member with two names")
    sent = _object(params, "message" if "message" in params else "request")
    _add(found, sent.get("taskId"))
    _add(contexts, sent.get("contextId"))
    references = sent.get("referenceTaskIds")
    for item in references if isinstance(references, list) else [references]:
        _add(found, item)
    configuration = _object(params, "configuration")
    for name in _PUSH_MEMBERS:
        _add(found, _object(configuration, name).get("taskId"))
    return list(dict.fromkeys(found)), contexts


def _add(found: list[str], ident: Json) -> None:
    if ident is None or ident == "":
        return  # ProtoJSON's way to say nothing
    if not isinstance(ident, str):
        raise Malformed("the id of a task or a conversation must be a string")
    found.append(ident)


def _object(holder: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = holder.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Malformed(f"{name} must be an object")
    return _known(found)


def _known(members: Mapping[str, Json]) -> dict[str, Json]:
    """The members A2A knows, by their camelCase names."""
    found: dict[str, Json] = {}
    for name, value in members.items():
        camel = _SPELLINGS.get(name)
        if camel is None:
            if name.replace("_", "").casefold() in _CARELESS:
                raise Malformed(f"{name[:40]!r} is a careless spelling")
        elif camel in found:
            raise Malformed(f"{camel} is there twice")
        else:
            found[camel] = value
    return found
