"""The canonical forms of agent cards, against the specification's example and the SDKs themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3 import types as v03
from a2a.types import AgentCard
from a2a.utils.signing import _canonicalize_agent_card as sdk_form
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.canonical import encode
from gateway.core.reasons import Malformed
from gateway.trust import card_forms
from gateway.trust.card_forms import COMPAT, SPEC, forms, to_sign
from gateway.trust.card_schema import CARD, Member
from tests.trust.card_rig import card, legacy

pytestmark = pytest.mark.filterwarnings("ignore")


def of(name: str, found: dict[str, Any]) -> list[bytes]:
    return [form.payload for form in forms(found) if form.name == name]


def test_the_specifications_own_example() -> None:
    found = {
        "name": "Example Agent",
        "description": "",
        "capabilities": {"streaming": False, "pushNotifications": False, "extensions": []},
        "skills": [],
    }
    wanted = (
        b'{"capabilities":{"pushNotifications":false,"streaming":false},"description":"","name":"Example Agent",'
        b'"skills":[]}'
    )
    assert of(SPEC, found)[0] == wanted


def test_signatures_are_never_signed_and_nulls_are_absent() -> None:
    plain = forms(card())
    assert forms(card(signatures=[{"protected": "x"}], iconUrl=None, provider=card()["provider"])) == plain
    assert [form.name for form in plain] == [SPEC, COMPAT, COMPAT]  # escaped to ASCII; without securitySchemes
    assert plain[0].payload == encode(card())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"iconUrl": ""}, {"iconUrl": ""}),
        ({"documentationUrl": "u"}, {"documentationUrl": "u"}),
        ({"description": ""}, {"description": ""}),
        ({"securitySchemes": {}, "securityRequirements": []}, {}),
        ({"capabilities": {"extensions": [{"uri": "u", "description": "", "required": False}]}},
         {"capabilities": {"extensions": [{"uri": "u"}]}}),
        ({"skills": [{"id": "a", "name": "", "description": "", "tags": [], "examples": []}]},
         {"skills": [{"id": "a", "name": "", "description": "", "tags": []}]}),
        ({"supportedInterfaces": [{"url": "u", "protocolBinding": "", "tenant": "", "protocolVersion": ""}]},
         {"supportedInterfaces": [{"url": "u", "protocolBinding": "", "protocolVersion": ""}]}),
        ({"capabilities": {"extensions": [{"uri": "u", "params": {"a": [], "b": "", "c": None}}]}},
         {"capabilities": {"extensions": [{"uri": "u", "params": {"a": [], "b": "", "c": None}}]}}),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_specifications_form_keeps(more: dict[str, Any], told: dict[str, Any]) -> None:
    bare = {name: value for name, value in card().items() if name not in more}
    assert of(SPEC, {**bare, **more})[0] == encode({**bare, **told})


def test_an_unknown_member_is_in_the_first_form_and_not_in_the_second() -> None:
    found = of(SPEC, card(future={"x": ""}))
    assert found == [encode(card(future={"x": ""})), encode(card())]


def test_a_required_member_that_is_absent_is_put_in_for_who_signed_it_so() -> None:
    bare = {name: value for name, value in card().items() if name not in ("description", "skills")}
    assert of(SPEC, bare) == [encode(bare), encode({**bare, "description": "", "skills": []})]


def schema_of(message: Descriptor) -> dict[str, tuple[str, str]]:
    """Member, kind and keep of each field as the SDK's own description of the protocol has them."""
    found = {}
    for field in message.fields:
        inner = field.message_type
        required = any(name.name == "field_behavior" and 2 in value for name, value in field.GetOptions().ListFields())
        keep = "required" if required else "optional" if inner is None and field.has_presence else ""
        if inner is not None and inner.GetOptions().map_entry:
            kind = "textmap" if inner.fields_by_name["value"].message_type is None else "map"
        elif inner is not None and inner.full_name.startswith("google.protobuf"):
            kind = "open"
        elif inner is not None:
            kind = "messages" if field.is_repeated else "message"
        else:
            kind = {8: "flag", 9: "text"}[field.type] + ("s" if field.is_repeated else "")
        found[field.json_name] = (kind, keep)
    return found


def compare(members: Any, message: Descriptor, seen: set[str]) -> None:
    wanted = schema_of(message)
    if message.name == "AgentCard":
        del wanted["signatures"]
    assert {name: (member.kind, member.keep) for name, member in members.items()} == wanted, message.full_name
    seen.add(message.full_name)
    for field in message.fields:
        member: Member | None = members.get(field.json_name)
        if member is not None and member.of:
            inner = field.message_type
            compare(member.of, inner.fields_by_name["value"].message_type if member.kind == "map" else inner, seen)


def test_the_table_is_the_sdks_description_of_a_card() -> None:
    seen: set[str] = set()
    compare(CARD, AgentCard.DESCRIPTOR, seen)
    assert len(seen) == 20


TEXT = st.sampled_from(["", "x", "ü", "a b"])


def messages(members: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Any JSON that the table allows."""

    def one(member: Member) -> st.SearchStrategy[Any]:
        inner = messages(member.of) if member.of else st.nothing()
        return {
            "text": TEXT,
            "flag": st.booleans(),
            "texts": st.lists(TEXT, max_size=2),
            "textmap": st.dictionaries(TEXT.filter(bool), TEXT, max_size=2),
            "message": inner,
            "messages": st.lists(inner, max_size=2),
            "map": st.dictionaries(st.sampled_from(["k", "l"]), inner, max_size=1),
            "open": st.dictionaries(
                TEXT.filter(bool), st.none() | TEXT | st.booleans() | st.lists(TEXT) | st.integers(0, 9), max_size=2
            ),
        }[member.kind]

    wanted = {name: one(member) for name, member in members.items()}
    if set(members) & {"apiKeySecurityScheme", "authorizationCode"}:  # one of them, never two
        return st.one_of(*(st.fixed_dictionaries({name: found}) for name, found in wanted.items()))
    return st.fixed_dictionaries({}, optional=wanted)


@given(messages(CARD))
def test_the_compat_form_is_what_the_python_sdk_signs(found: dict[str, Any]) -> None:
    found.setdefault("supportedInterfaces", [])
    wanted = sdk_form(parse_agent_card(json.loads(json.dumps(found)))).encode()
    payloads = [form.payload for form in forms(found)]
    assert wanted == to_sign(found)[0] or wanted == b"null"
    assert wanted in payloads or wanted == b"null"


@given(messages(CARD))
def test_what_a_form_says_is_the_same_card_to_a_reader_that_parses(found: dict[str, Any]) -> None:
    """Nothing a form leaves out means something, nor anything it puts in."""
    found.setdefault("supportedInterfaces", [])
    there = parse_agent_card(json.loads(json.dumps(found)))
    for form in forms(found):
        if form.name == SPEC:
            assert sdk_form(parse_agent_card(json.loads(json.dumps(form.card)))) == sdk_form(there)


@given(messages(CARD))
def test_a_forms_card_has_the_same_form_again(found: dict[str, Any]) -> None:
    """What goes on says what was signed, and nothing else."""
    found.setdefault("supportedInterfaces", [])
    for form in forms(found):
        assert form.payload in [again.payload for again in forms(form.card)]


def older_sdk(found: dict[str, Any], *, false_is_empty: bool) -> bytes:
    """As the Python SDK of v0.3 canonicalises: the model without defaults, without what is empty, escaped."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            value = {name: clean(item) for name, item in value.items()}
            value = {name: item for name, item in value.items() if item is not None}
        elif isinstance(value, list):
            value = [item for item in map(clean, value) if item is not None]
        if value in ("", [], {}) or value is None or (false_is_empty and not value):
            return None
        return value

    model = v03.AgentCard.model_validate(found)
    told = model.model_dump(
        exclude={"signatures"}, exclude_defaults=True, exclude_none=True, by_alias=True, mode="json"
    )
    return json.dumps(clean(told), separators=(",", ":"), sort_keys=True).encode()


OLDER = [
    legacy(),
    legacy(description="", defaultOutputModes=[]),
    legacy(name="ünïcode", protocolVersion="0.3.1", preferredTransport="HTTP+JSON"),
    legacy(additionalInterfaces=[{"url": "http://agent.internal:9001/x", "transport": "HTTP+JSON"}], iconUrl=""),
    legacy(supportsAuthenticatedExtendedCard=False, documentationUrl="https://acme.example"),
    legacy(capabilities={"extensions": [{"uri": "u", "required": False, "params": {"a": False, "b": 0, "c": ""}}]}),
    legacy(
        securitySchemes={
            "o": {
                "type": "oauth2",
                "flows": {"clientCredentials": {"tokenUrl": "https://idp.example", "scopes": {"a": "b"}}},
            },
            "h": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            "i": {"type": "openIdConnect", "openIdConnectUrl": "https://idp.example"},
        }
    ),
]


@pytest.mark.parametrize("found", OLDER, ids=range(len(OLDER)))
@pytest.mark.parametrize("false_is_empty", [True, False])
def test_the_older_sdks_form_is_among_those_of_its_cards(found: dict[str, Any], false_is_empty: bool) -> None:
    payload = older_sdk(found, false_is_empty=false_is_empty)
    form = next(form for form in forms(found) if form.payload == payload)
    assert form.name == COMPAT
    assert older_sdk(form.card, false_is_empty=false_is_empty) == payload
    shown = v03.AgentCard.model_validate(form.card)
    assert shown.url == found["url"]
    assert {name: scheme.root.type for name, scheme in (shown.security_schemes or {}).items() if name != "m"} == {
        name: scheme["type"] for name, scheme in found["securitySchemes"].items() if name != "m"
    }


def test_a_scheme_whose_type_is_not_signed_cannot_be_made_another() -> None:
    payload = older_sdk(legacy(), false_is_empty=True)
    schemes = {"k": {"type": "http", "in": "header", "name": "x-key"}, "m": {"type": "mutualTLS"}}
    form = next(form for form in forms(legacy(securitySchemes=schemes)) if form.payload == payload)
    assert form.card["securitySchemes"] == {"k": {"type": "apiKey", "in": "header", "name": "x-key"}}


@given(
    st.dictionaries(
        st.text(max_size=6),
        st.recursive(
            st.none()
            | st.booleans()
            | st.text(max_size=8)
            | st.integers(-(2**53) + 1, 2**53 - 1)
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_the_quick_way_writes_canonical_json(found: dict[str, Any]) -> None:
    assert card_forms.encode(found) == encode(found)


NAMES = st.sampled_from([*CARD, "x", "url"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_no_document_raises_anything_but_malformed(found: dict[str, Any]) -> None:
    try:
        made = forms(found)
    except Malformed:
        return
    assert made
    assert all(json.loads(form.payload) is not None for form in made)
