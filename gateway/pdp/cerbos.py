"""Cerbos over gRPC, with the messages of its own SDK: CheckResources, one call for all items of a list.

The rules:
1. Only EFFECT_ALLOW for the very action and resource that was asked about is an allow; results are matched by their
   place and what they say they are about, and a result for something else is no answer.
2. At most `AT_ONCE` resources in a call: the server takes no more by default.
3. An output that could not be computed may have been an obligation: no answer.
4. The caller's token goes along only where the configuration says so, only if it is a JWT, and only to this address.
This file needs the extra `cerbos`; it is imported where the configuration asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
from cerbos.effect.v1.effect_pb2 import EFFECT_ALLOW
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from cerbos.svc.v1 import svc_pb2_grpc
from google.protobuf import json_format, struct_pb2

from gateway.core.access import AccessRequest
from gateway.core.canonical import Json
from gateway.core.reasons import EngineFault
from gateway.pdp.cerbos_terms import answer_of, principal_attr, resource_attr, roles_of
from gateway.pdp.remote import Answer, Ask, Found, Unanswered

AT_ONCE = 50
ANSWER_BYTES = 1024 * 1024
# gRPC waits up to two minutes between attempts to connect; the breaker is what keeps callers from waiting here.
_OPTIONS = (
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
)
# These are about the question; all else is about the engine.
_REFUSED = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})


@dataclass(frozen=True, slots=True)
class CerbosTls:
    """PEM bytes; `ca` None for the system's authorities."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class CerbosSettings:
    """`target` is gRPC's: host:port or unix:PATH. `jwt`: the caller's token goes along; `key_set` names the keys that
    Cerbos verifies it with."""

    target: str
    policy_version: str = ""
    scope: str = ""
    jwt: bool = False
    key_set: str = ""
    tls: CerbosTls | None = None


class CerbosAsker:
    """The channel is opened at the first question: it belongs to the loop that asks."""

    name = "cerbos"

    def __init__(self, settings: CerbosSettings) -> None:
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None
        self._service: Any = None

    def prepare(self, requests: Sequence[AccessRequest], documents: Sequence[bytes]) -> Ask:
        calls = self._calls(requests)

        async def ask(found: Found) -> None:
            if len(calls) == 1:
                await self._asked(calls[0], found)
                return
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._asked(call, found))

        return ask

    async def check(self) -> None:
        try:
            await self._stub().ServerInfo(request_pb2.ServerInfoRequest())
        except grpc.RpcError as error:
            raise EngineFault(f"cerbos does not answer: {_code(error)}") from None

    async def aclose(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def _calls(self, requests: Sequence[AccessRequest]) -> list[_Call]:
        """One for each principal and `AT_ONCE` resources (2)."""
        calls: list[_Call] = []
        for index, request in enumerate(requests):
            document = request.document
            subject = document.get("subject")
            token = self._token(request)
            if not calls or calls[-1].full or (calls[-1].subject, calls[-1].token) != (subject, token):
                calls.append(_Call(subject, token, index, self._request(subject, token, document)))
            calls[-1].message.resources.append(self._entry(document))
        return calls

    def _request(self, subject: Json, token: str, document: Mapping[str, Json]) -> Any:
        if not isinstance(subject, dict) or not isinstance(subject.get("id"), str):
            raise ValueError("a question without a subject")
        context = document.get("context")
        about = context.get("request") if isinstance(context, dict) else None
        ident = about.get("id") if isinstance(about, dict) else None
        message = request_pb2.CheckResourcesRequest(request_id=str(ident or ""), include_meta=True)
        message.principal.CopyFrom(
            engine_pb2.Principal(
                id=str(subject["id"]),
                roles=roles_of(subject),
                policy_version=self._settings.policy_version,
                scope=self._settings.scope,
            )
        )
        _fill(message.principal.attr, principal_attr(subject))
        if token:
            message.aux_data.jwt.token, message.aux_data.jwt.key_set_id = token, self._settings.key_set
        return message

    def _entry(self, document: Mapping[str, Json]) -> Any:
        resource, action = document.get("resource"), document.get("action")
        if not isinstance(resource, dict) or not isinstance(action, dict):
            raise ValueError("a question without a resource or an action")
        entry = request_pb2.CheckResourcesRequest.ResourceEntry(actions=[str(action.get("name"))])
        entry.resource.kind, entry.resource.id = str(resource.get("type")), str(resource.get("id"))
        entry.resource.policy_version, entry.resource.scope = self._settings.policy_version, self._settings.scope
        _fill(entry.resource.attr, resource_attr(document))
        return entry

    def _token(self, request: AccessRequest) -> str:  # 4
        exchange = request.exchange
        if not self._settings.jwt or exchange is None or exchange.principal is None or not exchange.principal.issuer:
            return ""
        scheme, _, token = (exchange.head.first(b"authorization") or b"").partition(b" ")
        token = token.strip()
        known = scheme.lower() in (b"bearer", b"dpop") and token.count(b".") == 2
        return token.decode("ascii", "replace") if known else ""

    async def _asked(self, call: _Call, found: Found) -> None:
        count = len(call.message.resources)
        try:
            response = await self._stub().CheckResources(call.message)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
            answers: list[Answer | Unanswered] = [Unanswered(f"grpc {_code(error)}", code not in _REFUSED)] * count
        else:
            answers = _answers(call.message, response)
        found[call.first : call.first + count] = answers

    def _stub(self) -> Any:
        if self._service is None:
            tls, options = self._settings.tls, list(_OPTIONS)
            if tls is None:
                self._channel = grpc.aio.insecure_channel(self._settings.target, options=options)
            else:
                credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
                if tls.server_name:
                    options.append(("grpc.ssl_target_name_override", tls.server_name))  # type: ignore[arg-type]
                self._channel = grpc.aio.secure_channel(self._settings.target, credentials, options=options)
            self._service = svc_pb2_grpc.CerbosServiceStub(self._channel)  # type: ignore[no-untyped-call]
        return self._service


@dataclass(frozen=True, slots=True)
class _Call:
    """`first`: the place of its first resource among the questions."""

    subject: Json
    token: str
    first: int
    message: Any

    @property
    def full(self) -> bool:
        return len(self.message.resources) >= AT_ONCE


def _answers(asked: Any, response: response_pb2.CheckResourcesResponse) -> list[Answer | Unanswered]:
    if len(response.results) != len(asked.resources):
        return [Unanswered("answer_incomplete")] * len(asked.resources)
    ident = response.cerbos_call_id
    return [_answer(entry, result, ident) for entry, result in zip(asked.resources, response.results, strict=True)]


def _answer(entry: Any, result: Any, ident: str) -> Answer | Unanswered:
    action = entry.actions[0]
    about = result.resource
    if (about.kind, about.id, list(result.actions)) != (entry.resource.kind, entry.resource.id, [action]):  # 1
        return Unanswered("answer_about_something_else")
    if any(output.error for output in result.outputs):
        return Unanswered("output_failed", sick=False)  # 3
    outputs = [_json(output.val) for output in result.outputs if output.action in ("", action)]
    policy = result.meta.actions[action].matched_policy if action in result.meta.actions else ""
    allow = result.actions[action] == EFFECT_ALLOW
    return Answer(answer_of(allow, policy, outputs, bool(result.validation_errors)), id=ident)


def _fill(attributes: Any, values: Mapping[str, Json]) -> None:
    """Into a map of protobuf's JSON values. Raises ValueError for what has no place in one."""
    holder = struct_pb2.Struct()
    holder.update(values)
    for name, value in holder.fields.items():
        attributes[name].CopyFrom(value)


def _json(value: struct_pb2.Value) -> Json:
    found: Json = json_format.MessageToDict(value) if value.WhichOneof("kind") else None
    return found


def _code(error: grpc.RpcError) -> str:
    return str(error.code().name).lower() if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
