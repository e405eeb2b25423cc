"""What a policy may ask for besides its yes, read strictly, and whether a call is one it can be carried out on.

| type | members | what it does |
|---|---|---|
| redact | paths | hides what stands at these places of the answer (redaction.py) |
| set_arguments | arguments | merges them into the judged arguments before they are forwarded (RFC 7396: null removes) |
| max_tokens | n | a model may generate at most n tokens: lowers what the caller wants, sets it where there is none |
| limit | rate | one more rate, counted for the subject, the rule and what is called |
| charge | unit, amount | so much of each budget of that unit besides what the call costs; a deny where none is |
| require_approval | approvers, ttl | a deny that says so: there are no approvals |

A type or a member that is not listed, and a value of another kind, raises Malformed: an obligation that is understood
in part would be one that nobody keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final

from gateway.core.accounts import UNITS, Fee, amount
from gateway.core.canonical import Json, encode
from gateway.core.exchange import Call, Handle, Obligation
from gateway.core.reasons import Malformed
from gateway.core.redaction import Tree, tree_of

REDACT: Final = "redact"
SET_ARGUMENTS: Final = "set_arguments"
MAX_TOKENS: Final = "max_tokens"
LIMIT: Final = "limit"
CHARGE: Final = "charge"
REQUIRE_APPROVAL: Final = "require_approval"

FULFILLED: Final = frozenset({REDACT, SET_ARGUMENTS, MAX_TOKENS, LIMIT, CHARGE})
MOST_OBLIGATIONS: Final = 16  # of one decision: a record has them all
MOST_ARGUMENT_BYTES: Final = 64 * 1024
MOST_TOKENS: Final = 10**9

_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_TTL: Final = re.compile(r"[1-9][0-9]{0,8}(?:ms|s|m|h|d)")
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    REDACT: frozenset({"paths"}),
    SET_ARGUMENTS: frozenset({"arguments"}),
    MAX_TOKENS: frozenset({"n"}),
    LIMIT: frozenset({"rate"}),
    CHARGE: frozenset({"unit", "amount"}),
    REQUIRE_APPROVAL: frozenset({"approvers", "ttl"}),
}


@dataclass(frozen=True, slots=True)
class ExtraRate:
    """`count` calls per `window` seconds; `name` is how callers and records are told of it."""

    name: str
    count: int
    window: int


@dataclass(frozen=True, slots=True)
class Duties:
    """What one decision's obligations come to. `hides` is empty where nothing is hidden."""

    hides: Tree = field(default_factory=dict)
    arguments: Mapping[str, Json] | None = None
    max_tokens: int | None = None
    rates: tuple[ExtraRate, ...] = ()
    fees: tuple[Fee, ...] = ()

    @property
    def rewrites(self) -> bool:
        return self.arguments is not None or self.max_tokens is not None


def read(obligations: Iterable[Obligation]) -> Duties:
    """Several of a type: all paths, all rates, all charges, the lowest number of tokens; two set_arguments have no
    order. Raises Malformed, also for what is known and cannot be carried out."""
    paths: list[str] = []
    arguments: Mapping[str, Json] | None = None
    tokens: list[int] = []
    rates: list[ExtraRate] = []
    fees: list[Fee] = []
    for count, item in enumerate(obligations):
        if count >= MOST_OBLIGATIONS:
            raise Malformed(f"there are more than {MOST_OBLIGATIONS} obligations")
        _check_members(item)
        if item.type == REDACT:
            paths += _paths(item.values.get("paths"))
        elif item.type == SET_ARGUMENTS:
            if arguments is not None:
                raise Malformed("set_arguments is there twice")
            arguments = _arguments(item.values.get("arguments"))
        elif item.type == MAX_TOKENS:
            tokens.append(_count(item.values.get("n")))
        elif item.type == LIMIT:
            rates.append(_rate(item.values.get("rate")))
        elif item.type == CHARGE:
            fees.append(_charge(item.values.get("unit"), item.values.get("amount")))
        else:
            raise Malformed(shortfall(item))
    return Duties(tree_of(paths), arguments, min(tokens, default=None), tuple(dict.fromkeys(rates)), tuple(fees))


def shortfall(item: Obligation) -> str:
    """Why an obligation cannot be carried out. Raises Malformed where it is not even well formed."""
    if item.type == REQUIRE_APPROVAL:
        _check_members(item)
        _approval(item.values)
        return "The policy asks for the obligation 'require_approval': approvals are not in this version"
    return f"The policy asks for the obligation {item.type[:100]!r}, which this gateway cannot fulfil"


def unfit(call: Call, duties: Duties) -> str:
    """Why these duties cannot be done for such a call, "" where they can."""
    if call.action.startswith("ws."):
        if duties.hides:
            return "redact is not for WebSockets: what the upstream says there is not read"
        if duties.rewrites:
            return "set_arguments and max_tokens are not for WebSockets: a message goes on as it came"
    if duties.max_tokens is not None and not call.action.startswith("llm."):
        return "max_tokens is for models only"
    return ""


def mark(handle: Handle) -> Handle:
    """The handle that says of another one that an answer about it was redacted; whose it is does not count."""
    return Handle("redacted-" + handle.kind, handle.id)


def _check_members(item: Obligation) -> None:
    known = _MEMBERS.get(item.type)
    if known is None:
        raise Malformed(shortfall(item))
    for name in item.values:
        if name not in known:
            raise Malformed(f"{item.type}: member {name[:100]!r} is not known")


def _paths(value: Json) -> list[str]:
    if not isinstance(value, list) or not value:
        raise Malformed("redact: paths is not a list of paths")
    found = [item for item in value if isinstance(item, str)]
    if len(found) != len(value):
        raise Malformed("redact: a path is not text")
    return found


def _arguments(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict) or not value:
        raise Malformed("set_arguments: arguments is not an object with something in it")
    try:
        size = len(encode(value))
    except Malformed as error:
        raise Malformed(f"set_arguments: {error}") from None
    if size > MOST_ARGUMENT_BYTES:
        raise Malformed(f"set_arguments: more than {MOST_ARGUMENT_BYTES} bytes")
    return value


def _count(value: Json) -> int:
    """Some engines have doubles only."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_TOKENS:
        raise Malformed(f"max_tokens: n is not a whole number from 1 to {MOST_TOKENS}")
    return value


def _rate(value: Json) -> ExtraRate:
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Malformed("limit: rate is not written like 10/minute (second, minute, hour, day)")
    count, unit = found.groups()
    return ExtraRate(f"policy.{count}-{unit}", int(count), _SECONDS[unit])


def _charge(unit: Json, value: Json) -> Fee:
    """Of what is finer than the ledger counts a charge is rounded up."""
    if not isinstance(unit, str) or unit not in UNITS:
        raise Malformed(f"charge: unit is not one of {', '.join(UNITS)}")
    try:
        found = Decimal(str(value)) if isinstance(value, (str, int, float)) else Decimal("NaN")
    except InvalidOperation:
        found = Decimal("NaN")
    if isinstance(value, bool) or not found.is_finite() or found <= 0 or len(str(value)) > 40:
        raise Malformed("charge: amount is not a number above 0")
    try:
        return Fee(unit, amount(found, unit))
    except ValueError:
        raise Malformed(f"charge: amount is more than any budget in {unit} can hold") from None


def _approval(values: Mapping[str, Json]) -> None:
    approvers, ttl = values.get("approvers", ["approver"]), values.get("ttl", "1h")
    if not isinstance(approvers, list) or not approvers or not all(isinstance(item, str) for item in approvers):
        raise Malformed("require_approval: approvers is not a list of names")
    if not isinstance(ttl, str) or _TTL.fullmatch(ttl) is None:
        raise Malformed("require_approval: ttl is not written like 15m")
