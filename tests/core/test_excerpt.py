"""What an engine is shown is the part of the document that it reads, whichever way it is made."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import AccessRequest, access_request
from gateway.core.excerpt import Excerpts, project, tree_of
from gateway.core.exchange import Call
from tests.core.questions import PLACES, SHIPPED, heads, question, typed
from tests.thorough import examples


def projected(request: AccessRequest, reads: Any) -> Any:
    tree = tree_of(reads)
    return request.document if tree is None else project(request.document, tree)


SOME = st.sets(st.sampled_from(PLACES), max_size=6)


@settings(max_examples=examples(300), deadline=None)
@given(SOME | st.builds(SHIPPED.union, SOME), st.integers(0, 2**32))
def test_an_excerpt_is_the_projection_of_the_document_byte_for_byte(reads: Any, seed: int) -> None:
    """Through one engine, over heads that are said again by other callers on other routes."""
    rnd = random.Random(seed)
    among, excerpts = heads(), Excerpts(reads)
    for _ in range(20):
        request = question(rnd, among)
        made = excerpts.of(request)
        assert made == orjson.dumps(projected(request, reads))
        assert made == excerpts.of(AccessRequest(request.document))
        assert excerpts.of(request) == made


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_every_place_is_shown_as_the_document_has_it_beside_what_the_shipped_policy_reads(
    place: tuple[str, ...],
) -> None:
    rnd = random.Random(".".join(place))
    among, reads = heads(), SHIPPED | {place}
    excerpts = Excerpts(reads)
    for _ in range(400):
        request = question(rnd, among)
        assert excerpts.of(request) == orjson.dumps(projected(request, reads))


@pytest.mark.parametrize(
    "reads", [SHIPPED, {("context", "arguments")}, {("subject",), ("context", "request", "path")}, {()}]
)
def test_two_questions_that_differ_in_what_is_read_have_different_excerpts(reads: Any) -> None:
    rnd = random.Random(5757)
    among, excerpts = heads(), Excerpts(reads)
    seen: dict[bytes, Any] = {}
    for _ in range(20_000):
        request = question(rnd, among)
        picture = typed(projected(request, reads))
        assert seen.setdefault(excerpts.of(request), picture) == picture
    assert len(seen) > (500 if reads == SHIPPED else 20)


def test_what_one_engine_reads_is_never_shown_to_another() -> None:
    rnd = random.Random(7)
    among = heads()
    two = {
        name: Excerpts(reads)
        for name, reads in (("a", SHIPPED), ("b", {("subject", "id"), ("context", "request", "path")}))
    }
    for _ in range(2000):
        request = question(rnd, among)
        name = rnd.choice("ab")
        reads = SHIPPED if name == "a" else {("subject", "id"), ("context", "request", "path")}
        assert two[name].of(request) == orjson.dumps(projected(request, reads))


def test_the_common_parts_are_written_once_for_a_head() -> None:
    rnd = random.Random(1)
    head, excerpts = heads()[:1], Excerpts(SHIPPED)
    one = question(rnd, head)
    assert one.exchange is not None
    excerpts.of(one)
    kept = head[0].facts["excerpt"]
    again = AccessRequest(None, one.exchange, Call("mcp.tools/call", "tool", "shop/else"))
    excerpts.of(again)
    assert head[0].facts["excerpt"] is kept
    assert again._document is None, "nobody made the whole document"


def test_what_is_no_json_is_a_type_error() -> None:
    rnd = random.Random(1)
    request = question(rnd, heads())
    assert request.exchange is not None
    for odd in ("\ud800", object(), {1: 2}):
        call = Call("mcp.tools/call", "tool", "shop/buy", arguments={"path": odd}, has_arguments=True)  # type: ignore[dict-item]
        with pytest.raises(TypeError):
            Excerpts(SHIPPED).of(access_request(request.exchange, call))


def test_a_question_about_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        _ = AccessRequest().document
