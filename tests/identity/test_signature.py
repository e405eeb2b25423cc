"""Message signatures as a credential: whose they are, what they must cover, how long they count, and once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

from gateway.core.exchange import Exchange, Head, Principal
from gateway.core.reasons import Reason, Refusal, Spoiled
from gateway.identity.challenge import Challenges
from gateway.identity.replays import Replays
from gateway.identity.signature import SignatureSettings
from tests.identity.issuer import NOW, OPEN_ROUTE, ROUTE, HandClock, Keys, bearer
from tests.identity.prover import Prover, p256
from tests.identity.signature_rig import AGENT, REQUEST, Door, agent_head, bot, keys, rule
from tests.stages.exchanges import exchange

# Who it is


@pytest.mark.parametrize("key", [None, p256()], ids=["Ed25519", "P-256"])
def test_who_signs_a_request_is_the_holder_of_the_key(key: Any) -> None:
    door = Door(Prover(key) if key else None, org="acme", roles=("reader",))
    found = door.ask(door.head(REQUEST))
    assert isinstance(found, Principal)
    assert found.id == f"agent:partners/{door.prover.thumbprint}"
    assert (found.issuer, found.org, found.roles, found.proof) == (
        "partners", "acme", ("reader",), door.prover.thumbprint,
    )  # fmt: skip


def test_the_keys_of_one_subject_are_one_caller() -> None:
    first, second = Prover(), Prover()
    door = Door(first, source=Keys(keys(first, second)), subject="planner")
    found = [door.ask(door.head(REQUEST, by=prover)) for prover in (first, second)]
    assert [one.id for one in found if isinstance(one, Principal)] == ["agent:partners/planner"] * 2


@pytest.mark.parametrize(
    "components",
    [
        [('"@method"', "POST"), ('"@target-uri"', "https://gw.example/weather")],
        [('"@method"', "POST"), ('"@authority"', "gw.example"), ('"@request-target"', "/weather")],
        [*REQUEST, ('"accept"', "*/*")],
    ],
)
def test_the_whole_request_may_be_covered_in_each_of_its_forms(components: list[tuple[str, str]]) -> None:
    door = Door()
    assert isinstance(door.ask(door.head(components, (b"accept", b"*/*"))), Principal)


@pytest.mark.parametrize("left", range(len(REQUEST)))
def test_a_signature_that_leaves_a_part_of_the_request_open_is_refused(left: int) -> None:
    door = Door()
    components = [item for index, item in enumerate(REQUEST) if index != left]
    assert rule(door.ask(door.head(components))) == "signature_components"


def test_a_part_of_a_header_is_no_part_of_the_request() -> None:
    door = Door()
    components = [*REQUEST[1:], ('"x";key="@method"', "1")]
    assert rule(door.ask(door.head(components, (b"x", b"@method=1")))) == "signature_components"


@pytest.mark.parametrize(
    "changed",
    [{"method": "GET"}, {"target": "/weather?a"}, {"target": "/weather/"}, {"authority": "other.example"}],
)
def test_a_signature_of_another_request_is_refused(changed: dict[str, Any]) -> None:
    door = Door()
    found = door.ask(door.head(REQUEST, **changed))
    assert rule(found) == "signature_signature"
    assert isinstance(found, Refusal)
    assert found.reason is Reason.UNAUTHENTICATED


def test_a_key_that_is_not_known_is_nobodys() -> None:
    door = Door()
    assert rule(door.ask(door.head(REQUEST, by=Prover()))) == "signature_key"
    assert rule(door.ask(door.head(REQUEST, by=Prover(), keyid=door.prover.thumbprint))) == "signature_signature"


def test_a_key_that_was_published_since_is_asked_for_once() -> None:
    newer = Prover()
    source = Keys(keys(Prover()), later=keys(newer))
    door = Door(newer, source=source)
    assert isinstance(door.ask(door.head(REQUEST)), Principal)
    assert source.refreshes == 1
    assert rule(door.ask(door.head(REQUEST, by=Prover()))) == "signature_key"
    assert source.refreshes == 1


def test_without_any_keys_the_callers_are_told_to_try_again() -> None:
    door = Door(source=Keys(None))
    found = door.ask(door.head(REQUEST))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.IDENTITY_UNAVAILABLE


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"created": int(NOW) - 59}, ""),
        ({"created": int(NOW) - 61}, "signature_time"),
        ({"created": int(NOW) + 14}, ""),
        ({"created": int(NOW) + 16}, "signature_time"),
        ({"created": None}, "signature_malformed"),
        ({"expires": int(NOW) + 10}, ""),
        ({"created": int(NOW) - 30, "expires": int(NOW) + 1}, ""),
        ({"created": int(NOW) - 30, "expires": int(NOW)}, "signature_time"),
        ({"expires": int(NOW) - 1}, "signature_time"),
        ({"created": int(NOW) + 5, "expires": int(NOW) + 4}, "signature_time"),
        ({"keyid": None}, "signature_malformed"),
        ({"nonce": None}, "signature_nonce"),
        ({"nonce": ""}, "signature_nonce"),
        ({"alg": "ed25519"}, ""),
        ({"alg": "ecdsa-p256-sha256"}, "signature_algorithm"),
        ({"alg": "hmac-sha256"}, "signature_algorithm"),
        ({"alg": "rsa-pss-sha512"}, "signature_algorithm"),
        ({"tag": "other"}, "signature_key"),
    ],
)
def test_the_parameters_of_a_signature_count(parameters: dict[str, Any], wanted: str) -> None:
    door = Door()
    found = door.ask(door.head(REQUEST, **parameters))
    assert (found.rule if isinstance(found, Refusal) else "") == wanted


def test_an_entry_with_a_tag_takes_signatures_with_that_tag_only() -> None:
    door = Door(tag="partner-api")
    assert isinstance(door.ask(door.head(REQUEST, tag="partner-api")), Principal)
    assert rule(door.ask(door.head(REQUEST))) == "signature_key"


def test_what_may_say_who_and_not_what_is_said_in_the_configuration() -> None:
    strict, lenient = Door(), Door(whole=False)
    components = [('"@authority"', "gw.example")]
    assert rule(strict.ask(strict.head(components))) == "signature_components"
    assert isinstance(lenient.ask(lenient.head(components)), Principal)
    assert rule(lenient.ask(lenient.head([('"@method"', "POST")]))) == "signature_components"


def test_a_bad_signature_is_nobody_on_a_route_for_anybody() -> None:
    door = Door()
    assert rule(door.ask(door.head(REQUEST, by=Prover()), OPEN_ROUTE)) == "signature_key"


def test_a_caller_lives_as_long_as_its_key() -> None:
    door = Door()
    found = door.ask(door.head(REQUEST))
    assert isinstance(found, Principal)
    assert door.caller.alive(found)
    door.source.keys = keys(Prover())
    assert not door.caller.alive(found)


# Beside other credentials (contract, ruling 2)


def test_a_signature_beside_a_token_is_a_second_credential() -> None:
    door = Door()
    given = door.head([*REQUEST, ('"authorization"', f"Bearer {door.idp.token().decode()}")], bearer(door.idp.token()))
    found = door.ask(given)
    assert rule(found) == "credentials"
    assert isinstance(found, Refusal)
    assert found.reason is Reason.MALFORMED


def test_a_signature_by_the_key_that_a_token_is_bound_to_proves_it() -> None:
    door = Door()
    token = door.idp.token(cnf={"jkt": door.prover.thumbprint}).decode()
    covered = ('"authorization"', f"Bearer {token}")
    found = door.ask(door.head([*REQUEST, covered], bearer(token.encode())))
    assert isinstance(found, Principal)
    assert (found.id, found.proof) == ("agent:idp/planner", door.prover.thumbprint)


@pytest.mark.parametrize("case", ["another key", "token not covered", "none"])
def test_a_bound_token_without_its_own_signature_is_refused(case: str) -> None:
    door = Door()
    other = Prover()
    door.source.keys = keys(door.prover, other)
    token = door.idp.token(cnf={"jkt": door.prover.thumbprint}).decode()
    components = REQUEST if case == "token not covered" else [*REQUEST, ('"authorization"', f"Bearer {token}")]
    if case == "none":
        given = Head("POST", "/weather", "/weather", "", "gw.example", "https", (bearer(token.encode()),), "")
        assert rule(door.ask(given)) == "dpop_missing"
        return
    given = door.head(components, bearer(token.encode()), by=other if case == "another key" else None)
    assert rule(door.ask(given)) == "signature_key"


def test_a_wrong_signature_by_the_right_keys_name_proves_nothing() -> None:
    door = Door()
    token = door.idp.token(cnf={"jkt": door.prover.thumbprint}).decode()
    components = [*REQUEST, ('"authorization"', f"Bearer {token}")]
    given = door.head(components, bearer(token.encode()), by=Prover(), keyid=door.prover.thumbprint)
    assert rule(door.ask(given)) == "signature_signature"


# Bodies


def digest(body: bytes, algorithm: str = "sha-256") -> str:
    raw = hashlib.new(algorithm.replace("-", ""), body).digest()
    return f"{algorithm}=:{base64.b64encode(raw).decode()}:"


def with_digest(door: Door, said: str) -> Head:
    return door.head([*REQUEST, ('"content-digest"', said)], (b"content-digest", said.encode()))


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_a_body_is_the_one_that_was_signed(algorithm: str) -> None:
    door = Door()
    assert not isinstance(door.once(with_digest(door, digest(b"{}", algorithm)), b"{}"), Refusal)
    door.clock.pass_(1)
    assert rule(door.once(with_digest(door, digest(b"{}", algorithm)), b"{ }")) == "signature_digest"


def test_a_body_that_is_not_covered_is_refused() -> None:
    door = Door()
    assert rule(door.once(door.head(REQUEST, (b"content-digest", digest(b"{}").encode())), b"{}")) == "signature_digest"
    assert not isinstance(door.once(door.head(REQUEST), b""), Refusal)


@pytest.mark.parametrize(
    "said",
    [
        "md5=:AAAA:", "sha-256=AAAA", 'sha-256="x"', "sha-256=:AAAA:", "",
        f"{digest(b'{}')}, {digest(b'x', 'sha-512')}",
    ],
)  # fmt: skip
def test_a_digest_that_says_nothing_or_something_else_is_refused(said: str) -> None:
    door = Door()
    assert rule(door.once(with_digest(door, said), b"{}")) == "signature_digest"


def test_other_algorithms_beside_a_good_one_count_for_nothing() -> None:
    door = Door()
    assert not isinstance(door.once(with_digest(door, f"md5=:AAAA:, {digest(b'{}')}"), b"{}"), Refusal)


@pytest.mark.parametrize("pieces", [[b"abcdef"], [b"abc", b"def"], [b"a", b"b", b"c", b"d", b"e", b"f"]])
@pytest.mark.parametrize("right", [True, False])
def test_a_streamed_body_never_ends_as_another(pieces: list[bytes], right: bool) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def read(taken: Exchange) -> list[bytes]:
        found = []
        assert taken.body_stream is not None
        try:
            async for piece in taken.body_stream:
                found.append(piece)
        except Spoiled as error:
            found.append(error.refusal.rule.encode())
        return found

    door = Door()
    taken = door.once(with_digest(door, digest(b"abcdef" if right else b"abcdeF")), None, stream())
    found = asyncio.run(read(taken))
    assert found == (pieces if right else [*pieces[:-1], b"signature_digest"])  # the last piece never came out


# Counting once


def test_a_nonce_counts_once() -> None:
    door = Door()
    given = door.head(REQUEST, nonce="n")
    assert not isinstance(door.once(given), Refusal)
    assert rule(door.once(given)) == "signature_replay"
    door.clock.pass_(30)
    assert rule(door.once(door.head(REQUEST, nonce="n"))) == "signature_replay"  # a new signature, the same nonce


def test_a_wrong_body_does_not_use_the_nonce_up() -> None:
    door = Door()
    given = with_digest(door, digest(b"{}"))
    assert rule(door.once(given, b"x")) == "signature_digest"
    assert not isinstance(door.once(given, b"{}"), Refusal)


# Web Bot Auth


def test_an_agent_of_a_listed_directory_is_that_directory() -> None:
    door = bot()
    found = door.ask(agent_head(door))
    assert isinstance(found, Principal)
    assert found.id == "agent:partners/signer.example"
    assert door.caller.alive(found)


def test_the_older_bare_form_is_understood() -> None:
    door = bot()
    components = [('"@authority"', "gw.example"), ('"signature-agent"', f'"{AGENT}"')]
    given = door.head(
        components, (b"signature-agent", f'"{AGENT}"'.encode()), tag="web-bot-auth", expires=int(NOW) + 60
    )
    assert isinstance(door.ask(given), Principal)


@pytest.mark.parametrize(
    "value",
    [
        'sig1="https://evil.example"',
        'sig1="http://signer.example"',
        'sig1="https://signer.example/path"',
        'sig1="https://signer.example:8443"',
        'sig1="https://signer.example@evil.example"',
        'sig1="https://signer.example/jwks.json";type=jwks_uri',
        'sig1="https://signer.example";type=cimd',
        "sig1=token",
        "sig1=5",
    ],
)
def test_another_agent_than_a_listed_directory_is_nobody(value: str) -> None:
    door = bot()
    assert rule(door.ask(agent_head(door, value))) == "signature_key"


def test_an_agent_that_the_signature_does_not_cover_counts_for_nothing() -> None:
    door = bot()
    given = door.head(
        [('"@authority"', "gw.example")], (b"signature-agent", f'sig1="{AGENT}"'.encode()), tag="web-bot-auth",
        expires=int(NOW) + 60,
    )  # fmt: skip
    assert rule(door.ask(given)) == "signature_key"


def test_a_key_of_one_directory_is_not_anothers() -> None:
    """Or whoever has a directory could sign as any other (the draft's security considerations)."""
    mine, other = Prover(), Prover()
    directories = {AGENT: Keys(keys(mine)), "https://other.example": Keys(keys(other))}
    door = bot(directories=directories)
    assert rule(door.ask(agent_head(door, f'sig1="{AGENT}"', by=other))) == "signature_key"
    found = door.ask(agent_head(door, 'sig1="https://other.example"', by=other))
    assert isinstance(found, Principal)
    assert found.id == "agent:partners/other.example"


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"tag": "other"}, "signature_tag"),
        ({"tag": None}, "signature_tag"),
        ({"expires": None}, "signature_time"),
        ({"expires": int(NOW) + 24 * 3600}, ""),
        ({"expires": int(NOW) + 24 * 3600 + 1}, "signature_time"),
    ],
)
def test_a_bots_signature_says_that_it_is_one_and_ends_within_a_day(parameters: dict[str, Any], wanted: str) -> None:
    door = bot()
    found = door.ask(agent_head(door, **parameters))
    assert (found.rule if isinstance(found, Refusal) else "") == wanted


def test_two_entries_cannot_list_one_directory() -> None:
    source = Keys(None)
    with pytest.raises(ValueError, match="directory"):
        bot(directories={AGENT: source}).signatures.__class__(
            [SignatureSettings("a", directories={AGENT: source}), SignatureSettings("b", directories={AGENT: source})],
            Challenges("https://gw.example"), Replays(HandClock()), HandClock(), "https",
        )  # fmt: skip


# Somebody else's signer


class _Request:
    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers = method, url, headers


@pytest.mark.parametrize(
    ("algorithm", "key"), [(algorithms.ED25519, None), (algorithms.ECDSA_P256_SHA256, p256())], ids=["Ed25519", "P-256"]
)
def test_what_another_implementation_signs_is_understood(algorithm: Any, key: Any) -> None:
    door = Door(Prover(key) if key else None)
    private = door.prover.key

    class Resolver(HTTPSignatureKeyResolver):
        def resolve_private_key(self, key_id: str) -> Any:
            return private

        def resolve_public_key(self, key_id: str) -> Any:
            return private.public_key()

    body = b'{"a":1}'
    request = _Request("POST", "https://gw.example/weather?a=%20b", {"Content-Type": "application/json"})
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Resolver()).sign(
        request, key_id=door.prover.thumbprint, created=datetime.fromtimestamp(NOW, UTC), nonce="their-nonce",
        covered_component_ids=("@method", "@authority", "@target-uri", "content-type", "content-digest"),
        body=body,
    )  # fmt: skip
    headers = tuple((name.lower().encode(), value.encode()) for name, value in request.headers.items())
    given = Head("POST", "/weather?a=%20b", "/weather", "a=%20b", "gw.example", "https", headers, "")
    assert not isinstance(door.once(given, body), Refusal)
    door.clock.pass_(1)
    assert rule(door.caller.once(_taken(given, b"other"), door.ask(given))) == "signature_digest"  # type: ignore[arg-type]


def _taken(given: Head, body: bytes) -> Exchange:
    taken: Exchange = exchange(principal=None)
    taken.head, taken.route, taken.body = given, ROUTE, body
    return taken


def test_asking_twice_who_calls_uses_nothing_up() -> None:
    """A large body is only read of a caller who is known, so a head may be judged twice."""
    door = Door()
    given = door.head(REQUEST)
    for _ in range(3):
        found = door.caller.authenticate(given, ROUTE)
        assert not isinstance(found, Awaitable)
        assert isinstance(found, Principal)
    assert not isinstance(door.once(given), Refusal)
