"""The two records of an ordinary exchange as canonical bytes, drawn from fragments that many exchanges share.

1. What is drawn is byte for byte what `records.intent` and `records.terminal` would be in RFC 8785's form: members in
   the order of their names, made by the same encoder; a test compares the two for every shape.
2. Only the ordinary is drawn: a body that was read whole or none, no rewriting, no parent. Only an outcome without
   refusal, fault or filtered list is. For anything else the answer is None, and the record is made as a dictionary.
3. Fragments are kept for what is the same again and again: decision, descriptors, resource, caller, request head. They
   hold nothing of a body. They are bounded, and forgotten all at once.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.core.accounts import Account, Budget, Charge, shown
from gateway.core.canonical import Json, digest
from gateway.core.exchange import Call, Decision, Exchange, Fragments, Head, Principal
from gateway.core.records import decision_of, second, subject_of

KEPT_FRAGMENTS: Final = 1024  # of each sort, some hundred bytes each
KEPT_ACCOUNTS: Final = 4096  # whose pieces are kept, about a kilobyte each
_SORTED: Final = orjson.OPT_SORT_KEYS
_THREE: Final[list[bytes]] = [b"%03d" % number for number in range(1000)]
_GAP: Final = orjson.Fragment(b"\0")  # no piece of JSON has a NUL in it


class Drawn:
    """A record without `node` and `seq`, which the sequencer puts between `before` and `middle`, and `middle` and
    `after`. `middle` may be empty."""

    __slots__ = ("after", "before", "exchange", "kind", "middle")

    def __init__(self, kind: str, exchange: str, before: bytes, middle: bytes, after: bytes) -> None:
        self.kind: Final = kind
        self.exchange: Final = exchange
        self.before: Final = before
        self.middle: Final = middle
        self.after: Final = after

    def record(self) -> dict[str, Json]:
        """The same as a dictionary."""
        after = self.after if self.middle else self.after[1:]  # `before` ends with a comma, `after` begins with one
        found: dict[str, Json] = orjson.loads(self.before + self.middle + after)
        return found


class _Charged:
    """What records say of one account, and what it came to last: most calls of an account come to the same."""

    __slots__ = ("_after", "_before", "_closed", "_opened", "_reserved", "_settled", "_then", "account", "unit")

    def __init__(self, budget: Budget, account: Account) -> None:
        self.account: Final = account
        self.unit: Final = budget.unit
        self._before: Final = b'{"key":%s' % orjson.dumps(orjson.loads(account.key))
        period = b',"period":"%s"' % account.period.encode() if account.period else b""
        self._after: Final = b',"name":"%s"%s,"reserved":"' % (account.budget.encode(), period)
        self._opened, self._reserved = b"", -1  # as `records.reserved_of`
        self._closed, self._settled, self._then = b"", -1, -1  # as `records.settled_of`

    def opened(self, reserved: int) -> bytes:
        if reserved != self._reserved:
            said = shown(reserved, self.unit).encode()
            self._opened = b'%s%s%s","unit":"%s"}' % (self._before, self._after, said, self.unit.encode())
            self._reserved = reserved
        return self._opened

    def closed(self, reserved: int, settled: int, marks: tuple[int, ...]) -> bytes:
        if marks:
            return self._made(reserved, settled, b',"marks":%s' % orjson.dumps(marks))
        if settled != self._settled or reserved != self._then:
            self._closed = self._made(reserved, settled, b"")
            self._then, self._settled = reserved, settled
        return self._closed

    def _made(self, reserved: int, settled: int, marks: bytes) -> bytes:
        unit = self.unit
        return b'%s%s%s%s","settled":"%s","unit":"%s"}' % (
            self._before,
            marks,
            self._after,
            shown(reserved, unit).encode(),
            shown(settled, unit).encode(),
            unit.encode(),
        )


class _Charges:
    """What records say of the accounts that are charged together, in this order, and what they came to last."""

    __slots__ = ("_closed", "_opened", "_reserved", "_settled", "_then", "accounts")

    def __init__(self, accounts: list[_Charged]) -> None:
        self.accounts: Final = accounts
        self._opened, self._closed = b"", b""
        self._reserved: Final = [-1] * len(accounts)
        self._then: Final = [-1] * len(accounts)
        self._settled: Final = [-1] * len(accounts)

    def are(self, charges: list[Charge]) -> bool:
        if len(charges) != len(self.accounts):
            return False
        same = True
        for at, charge in enumerate(charges):
            known = self.accounts[at]
            same = same and known.account is charge.account and known.unit == charge.budget.unit
        return same

    def opened(self, charges: list[Charge]) -> bytes:
        """The member `budgets` of an intent, between two others."""
        same = True
        for at, charge in enumerate(charges):
            if charge.reserved != self._reserved[at]:
                self._reserved[at] = charge.reserved
                same = False
        if not same:
            said = [self.accounts[at].opened(charge.reserved) for at, charge in enumerate(charges)]
            self._opened = b',"budgets":[' + b",".join(said) + b"]"
        return self._opened

    def closed(self, charges: list[Charge]) -> bytes:
        """That of an outcome."""
        same, marked = True, False
        for at, charge in enumerate(charges):
            settled = charge.settled or 0
            if settled != self._settled[at] or charge.reserved != self._then[at]:
                self._settled[at], self._then[at] = settled, charge.reserved
                same = False
            marked = marked or bool(charge.marks)
        if same and not marked:
            return self._closed
        said = [
            self.accounts[at].closed(charge.reserved, charge.settled or 0, charge.marks)
            for at, charge in enumerate(charges)
        ]
        found = b',"budgets":[' + b",".join(said) + b"]"
        if marked:  # once in a while
            self._settled[0] = -1
        else:
            self._closed = found
        return found


class Drawing:
    """Draws the records of all exchanges of one gateway. One thread's own."""

    def __init__(self) -> None:
        self._decisions: dict[tuple[str, bool, str, str, str, str, str], tuple[bytes, bytes, bytes, bytes]] = {}
        self._resources: dict[tuple[str, str], bytes] = {}
        self._strings: dict[str, bytes] = {}
        self._charges: dict[int, _Charged] = {}  # by what the account is, which is held likewise
        self._together: dict[int, _Charges] = {}  # by what the last of the accounts is
        self._usd: dict[int, bytes] = {}  # amounts as usage has them
        self._second = -1  # what many records share of their time, and what it looks like
        self._seconds = b""
        self._descriptors: dict[int, tuple[Json, str, bytes]] = {}

    def intent(self, exchange: Exchange, ident: str, now: float) -> Drawn | None:
        """The intent, and on the exchange what its outcome will repeat; None where it is not ordinary (2)."""
        found = self._fragments(exchange)
        if found is None:
            return None
        exchange.drawn = found
        return Drawn(
            "intent",
            exchange.id,
            b'%s%s%s%s%s"id":"%s","kind":"intent",%s'
            % (
                found.action,
                self._charged(exchange.charges).opened(exchange.charges) if exchange.charges else b"",
                found.asked,
                self._described(exchange),
                found.exchange,
                ident.encode(),
                b'"limits":%s,' % exchange.limits_said if exchange.limits_said else b"",
            ),
            found.request + found.route,
            b'%s%s%s"upstream":{"name":%s},"v":1}'
            % (found.subject, self._time(now), found.trace, self._string(exchange.upstream.name)),
        )

    def outcome(self, exchange: Exchange, ident: str, now: float) -> Drawn | None:
        """The outcome of an exchange whose intent was drawn; None where it is not ordinary (2)."""
        found: Fragments | None = exchange.drawn
        if (
            found is None
            or exchange.intent_seq is None
            or exchange.refusal is not None
            or exchange.fault
            or exchange.filtered is not None
            or exchange.would_deny
            or exchange.failed_open
        ):
            return None
        usage = exchange.usage
        if usage.plain:
            used = b"%s%s%s%s}" % (
                f'{{"bytes_in":{usage.bytes_in},"bytes_out":{usage.bytes_out},"calls":{usage.calls}'.encode(),
                b',"estimated":true' if usage.estimated else b"",
                b',"unpriced":true' if usage.unpriced else b"",
                self._paid(usage.usd) if usage.usd is not None else b"",
            )  # fmt: skip
        else:
            used = orjson.dumps(usage.record(), option=_SORTED)
        answered = b',"digest":"%s"' % exchange.response_digest.encode() if exchange.response_digest else b""
        address, ms = exchange.upstream_address, exchange.upstream_ms
        return Drawn(
            "outcome",
            exchange.id,
            b'%s%s%s%s"id":"%s","kind":"outcome",'
            % (
                found.action,
                self._charged(exchange.charges).closed(exchange.charges) if exchange.charges else b"",
                found.before,
                found.exchange,
                ident.encode(),
            ),
            b'%s"response":{"bytes":%d%s,"status":%d},"result":%s,%s'
            % (found.request, usage.bytes_out, answered, exchange.status, self._string(exchange.result), found.route),
            b'%s%s%s"upstream":{%s%s"name":%s},"us":%d,"usage":%s,"v":1}'
            % (
                found.subject,
                self._time(now),
                found.trace,
                (b'"address":%s,' % self._string(address) if address else b"")
                + (b'"attempts":%d,' % exchange.attempts if exchange.attempts > 1 else b""),
                b'"ms":%d,' % int(ms) if ms is not None else b"",
                self._string(exchange.upstream.name),
                max(0, int((now - exchange.time) * 1_000_000)),
                used,
            ),
        )

    def _fragments(self, exchange: Exchange) -> Fragments | None:
        call, decision, principal, body = exchange.asked, exchange.decision, exchange.principal, exchange.body
        if (
            not isinstance(call, Call)
            or decision is None
            or principal is None
            or exchange.body_stream is not None
            or exchange.forwarded_digest
            or exchange.parent
            or exchange.refusal is not None
            or decision.obligations
            or decision.id
            or decision.fault
            or exchange.capture is not None
            or not exchange.route.name
        ):
            return None
        action, plain, before, behind = self._decided(call.action, decision)
        item = (call.resource_type, call.resource_id)
        resource = self._resources.get(item)
        if resource is None:
            members: dict[str, Json] = {"type": call.resource_type, "id": call.resource_id}
            resource = _keep(self._resources, item, b'"resource":%s,' % orjson.dumps(members, option=_SORTED))
        sized = b""
        hashed = b""
        if body is not None:
            if not exchange.request_digest:
                exchange.request_digest = digest(body)
            sized = b'"bytes":%d,' % len(body)
        if exchange.request_digest:
            hashed = b'"digest":"%s",' % exchange.request_digest.encode()
        client, said = _request(exchange.head, exchange.client_id)
        return Fragments(
            action,
            b'%s"input":"%s",%s' % (before, decision.input.encode(), behind) if decision.input else plain,
            plain,
            b'"exchange":"%s",' % exchange.id.encode(),
            b'"request":{%s%s%s%s,%s' % (sized, client, hashed, said, resource),
            b'"route":%s' % self._string(exchange.route.name),
            b',%s"time":"' % _subject(exchange.head, principal),
            b'","trace_id":"%s",' % exchange.trace_id.encode() if exchange.trace_id else b'",',
        )

    def _decided(self, action: str, decision: Decision) -> tuple[bytes, bytes, bytes, bytes]:
        """`action` and `decision` of an object that is going on, between which `budgets` go; the latter also in two
        pieces, between which the input's digest goes."""
        key = (
            action, decision.allow, decision.reason, decision.rule, decision.engine, decision.revision, decision.mode,
        )  # fmt: skip
        found = self._decisions.get(key)
        if found is None:
            said: dict[str, Any] = {**decision_of(decision), "input": _GAP}
            if len(self._decisions) >= KEPT_FRAGMENTS:
                self._decisions.clear()  # 3
            opened = b'{"action":%s' % orjson.dumps(action)
            before, _, behind = (b',"decision":%s,' % orjson.dumps(said, option=_SORTED)).partition(b'"input":\0,')
            found = self._decisions[key] = (opened, before + behind, before, behind)
        return found

    def _charged(self, charges: list[Charge]) -> _Charges:
        last = charges[-1].account  # most often the narrowest one: who has it has the others with it
        found = self._together.get(id(last))
        if found is None or not found.are(charges):
            if len(self._together) >= KEPT_ACCOUNTS:
                self._together.clear()  # 3
            found = self._together[id(last)] = _Charges([self._account(charge) for charge in charges])
        return found

    def _account(self, charge: Charge) -> _Charged:
        account = charge.account
        found = self._charges.get(id(account))
        if found is None or found.account is not account or found.unit != charge.budget.unit:
            if len(self._charges) >= KEPT_ACCOUNTS:
                self._charges.clear()  # 3
            found = self._charges[id(account)] = _Charged(charge.budget, account)
        return found

    def _paid(self, usd: int) -> bytes:
        found = self._usd.get(usd)
        return _keep(self._usd, usd, b',"usd":"%s"' % shown(usd, "usd").encode()) if found is None else found

    def _described(self, exchange: Exchange) -> bytes:
        """What counted is the same object as long as it counts, and never changed: so it is found by what it is, and
        held, so that nothing else can be at its place."""
        descriptor = exchange.descriptor
        if descriptor is None:
            return b""
        members = [self._member(name, descriptor[name]) for name in sorted(descriptor)]
        return b'"descriptor":{%s},' % b",".join(members)

    def _member(self, name: str, said: Json) -> bytes:
        known = self._descriptors.get(id(said))
        if known is None or known[0] is not said or known[1] != name:
            if len(self._descriptors) >= KEPT_FRAGMENTS:
                self._descriptors.clear()  # 3
            known = said, name, orjson.dumps({name: said}, option=_SORTED)[1:-1]
            self._descriptors[id(said)] = known
        return known[2]

    def _time(self, now: float) -> bytes:
        """As `records.timestamp`."""
        whole = int(now)
        if whole != self._second:
            self._second, self._seconds = whole, f"{second(whole)}.".encode()
        micro = int((now - whole) * 1_000_000)
        return self._seconds + _THREE[micro // 1000] + _THREE[micro % 1000] + b"Z"

    def _string(self, text: str) -> bytes:
        found = self._strings.get(text)
        return _keep(self._strings, text, orjson.dumps(text)) if found is None else found


def _keep(kept: dict[Any, bytes], key: Any, fragment: bytes) -> bytes:
    if len(kept) >= KEPT_FRAGMENTS:
        kept.clear()  # 3
    kept[key] = fragment
    return fragment


def _subject(head: Head, principal: Principal) -> bytes:
    """Kept on the head: a connection that says the same again is the same caller."""
    known: tuple[Principal, bytes] | None = head.facts.get("subject drawn")
    if known is None or known[0] is not principal:
        known = (principal, b'"subject":%s,' % orjson.dumps(subject_of(principal), option=_SORTED))
        head.facts["subject drawn"] = known
    return known[1]


def _request(head: Head, client_id: str) -> tuple[bytes, bytes]:
    """`client_id`, which follows from the head as well, and the members behind the digest."""
    known: tuple[bytes, bytes] | None = head.facts.get("request drawn")
    if known is None:
        client = b'"client_id":%s,' % orjson.dumps(client_id) if client_id else b""
        said = {"method": head.method, "path": head.path, "peer": head.peer}
        known = head.facts["request drawn"] = (client, orjson.dumps(said, option=_SORTED)[1:])
    return known
