"""One WebSocket message: whether it is judged, as what, and how a no is said inside the socket (ruling 14).

1. A JSON object or array is judged: `ws.message`, its value the arguments. 2. A JSON-RPC message has to be a
well-formed one; a batch is refused. 3. What some lenient reader would take for such a thing, but the strict one does
not, is refused. 4. Everything else (text, binary, plain values) is only counted: the open was its permission.
A denied JSON-RPC request is answered in place and the socket stays; what is not JSON-RPC can only be met with a close.
"""

from __future__ import annotations

import json

from gateway.core.canonical import Json, parse
from gateway.core.exchange import Call, Exchange
from gateway.core.reasons import Malformed, Reason, Refusal
from gateway.protocols import jsonrpc

ENVELOPE = "jsonrpc"  # `Call.era` of a message that can be answered in place

_BLANK = b" \t\r\n\x00\xef\xbb\xbf\xff\xfe"  # what may stand before JSON in the encodings readers guess
_LATER = frozenset(
    {Reason.RATE_LIMITED, Reason.OVERLOADED, Reason.BREAKER_OPEN}
    | {Reason.POLICY_UNAVAILABLE, Reason.AUDIT_UNAVAILABLE}
)
_BROKEN = frozenset({Reason.FAULT, Reason.UPSTREAM_FAILED, Reason.UPSTREAM_TIMEOUT})


def classify(exchange: Exchange, message: str | bytes, resource_id: str) -> Call | Refusal | None:
    """The Call of one whole message, a Refusal, or None where it is only counted."""
    binary = isinstance(message, bytes)
    data = message if isinstance(message, bytes) else message.encode("utf-8", "surrogatepass")
    if data.lstrip(_BLANK)[:1] not in (b"{", b"["):
        return None  # 4
    limit = exchange.snapshot.judged_body_bytes
    if len(data) > limit:
        return Refusal(Reason.TOO_LARGE, f"A judged message may have {limit} bytes", rule="message")
    try:
        value = parse(data)
    except Malformed as error:
        if not _readable(data):
            return None  # 4
        text = str(error)
        return Refusal(Reason.MALFORMED, text, rule="json", rpc_code=jsonrpc.PARSE_ERROR)  # 3
    context: dict[str, Json] = {"message": {"type": "binary" if binary else "text", "bytes": len(data)}}
    call = Call("ws.message", "endpoint", resource_id, arguments=value, has_arguments=True, context=context)
    if not _is_rpc(value):
        return call  # 1
    try:
        found = jsonrpc.message(value)
    except Malformed as error:
        return Refusal(Reason.MALFORMED, str(error), rule="envelope", rpc_code=jsonrpc.INVALID_REQUEST)  # 2
    asks = found.kind is jsonrpc.Kind.REQUEST
    return call.but(era=ENVELOPE, message_id=found.id if asks else None, reply=asks)


def refuse(exchange: Exchange, refusal: Refusal) -> str | None:
    """The text that answers a refused message, "" where nobody waits for one, None where only a close can say it."""
    asked = exchange.asked
    if isinstance(asked, Call):
        if asked.era != ENVELOPE:
            return None
        return jsonrpc.refusal_body(exchange, refusal).decode("ascii") if asked.reply else ""
    return jsonrpc.refusal_body(exchange, refusal).decode("ascii") if refusal.rpc_code is not None else None


def close_code(refusal: Refusal) -> int:
    """RFC 6455, 7.4.1, and 1013 of its registry."""
    if refusal.reason in _LATER:
        return 1013
    if refusal.reason in _BROKEN:
        return 1011
    return 1009 if refusal.reason is Reason.TOO_LARGE else 1008


def _is_rpc(value: Json) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, dict) and "jsonrpc" in item for item in value)
    return isinstance(value, dict) and "jsonrpc" in value


def _readable(data: bytes) -> bool:
    """Whether a lenient reader (last name wins, NaN, guessed encoding, any depth) would make an object of it."""
    try:
        return isinstance(json.loads(data.decode(json.detect_encoding(data), "replace")), dict | list)
    except RecursionError:
        return True
    except (ValueError, UnicodeError):
        return False
