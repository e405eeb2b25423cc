"""What a call may use at most: every spelling of its bounds, and what its body only names."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.estimates import IMAGE_TOKENS, MOST_OUTPUT_TOKENS, Reach, input_tokens, output_tokens, sent_bytes
from tests.ledger.pricing import model

ASK = {"messages": [{"role": "user", "content": "Snow in Oslo?"}]}


def output(body: dict[str, Any], reach: Reach = Reach(), api: str = "chat") -> tuple[int, bool, bool]:  # noqa: B008
    return output_tokens(model(api, {**ASK, **body}).call, reach)


def asked(body: dict[str, Any], reach: Reach = Reach(), api: str = "chat") -> int:  # noqa: B008
    found = model(api, body)
    return input_tokens(found.call, sent_bytes(found), reach)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_each_spelling_of_the_bound_is_the_callers_word(name: str) -> None:
    assert output({name: 300}) == (300, True, True)


def test_of_several_bounds_the_largest_counts() -> None:
    assert output({"max_tokens": 100, "max_completion_tokens": 900}) == (900, True, True)


@pytest.mark.parametrize("said", [{}, {"max_tokens": None}])
def test_without_a_bound_it_is_the_models_own_or_a_large_one(said: dict[str, Any]) -> None:
    assert output(said) == (MOST_OUTPUT_TOKENS, False, False)
    assert output(said, Reach(max_output=4000)) == (4000, False, True)


def test_a_bound_beyond_the_models_own_is_the_models_own() -> None:
    assert output({"max_tokens": 10**9}, Reach(max_output=4000)) == (4000, False, True)


@pytest.mark.parametrize("odd", ["100", 100.0, True, [100], {"n": 1}, 0, -1, 10**13])
def test_a_bound_that_two_servers_read_in_two_ways_is_none(odd: Any) -> None:
    assert output({"max_tokens": odd})[0] == MOST_OUTPUT_TOKENS
    assert output({"max_tokens": odd, "max_completion_tokens": 5})[0] in (5, MOST_OUTPUT_TOKENS)
    if type(odd) is not int:
        assert output({"max_tokens": odd, "max_completion_tokens": 5})[0] == MOST_OUTPUT_TOKENS


@pytest.mark.parametrize(
    ("choices", "times"),
    [({"n": 4}, 4), ({"best_of": 7, "n": 2}, 7), ({"n": "3"}, 3), ({"n": 2.0}, 2), ({"n": None}, 1), ({"n": 0}, 1)],
)
def test_each_choice_may_have_the_whole_bound(choices: dict[str, Any], times: int) -> None:
    assert output({"max_tokens": 100, **choices})[0] == 100 * times


def test_input_is_the_bytes_of_the_body_by_the_prices_measure() -> None:
    size = len(json.dumps({"model": "m", **ASK}).encode())
    assert asked(ASK) == -(-size // 3)
    assert asked(ASK, Reach(bytes_per_token=1)) == size


def test_embeddings_have_no_output_and_count_token_ids_one_by_one() -> None:
    assert output_tokens(model("embeddings", {"input": "x"}).call, Reach()) == (0, True, True)
    assert asked({"input": [1] * 9000}, api="embeddings") >= 9000
    assert asked({"input": [[1] * 4000, [2] * 5000]}, api="embeddings") >= 9000


PICTURE = base64.b64encode(bytes(300_000)).decode()
PICTURES = {
    "chat": {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PICTURE}},
    ]}]},
    "responses": {"input": [{"role": "user", "content": [
        {"type": "input_image", "image_url": "data:image/png;base64," + PICTURE},
    ]}]},
    "messages": {"max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        ]},
    ]}]},
}  # fmt: skip


@pytest.mark.parametrize("api", list(PICTURES))
def test_an_inline_picture_counts_as_a_picture_and_not_by_its_bytes(api: str) -> None:
    assert IMAGE_TOKENS < asked(PICTURES[api], api=api) < IMAGE_TOKENS + 200
    assert asked(PICTURES[api], Reach(image_tokens=50_000), api=api) > 50_000


def test_a_picture_that_is_only_named_counts_as_one_too() -> None:
    named = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/p.png"}}]}]
    }
    assert asked(named) > IMAGE_TOKENS


def test_text_that_looks_like_a_picture_counts_by_its_bytes() -> None:
    text = {"messages": [{"role": "user", "content": "data:image/png;base64," + PICTURE}]}
    assert asked(text) > 100_000


REFERENCES: list[tuple[str, dict[str, Any]]] = [
    ("responses", {"input": "x", "previous_response_id": "resp_1"}),
    ("responses", {"input": "x", "conversation": "conv_1"}),
    ("responses", {"input": "x", "prompt": {"id": "pmpt_1"}}),
    ("responses", {"input": "x", "tools": [{"type": "web_search_preview"}]}),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}),
    ("chat", {**ASK, "web_search_options": {}}),
    ("messages", {**ASK, "max_tokens": 9, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("messages", {**ASK, "max_tokens": 9, "mcp_servers": [{"type": "url", "url": "https://x"}]}),
]


@pytest.mark.parametrize(("api", "body"), REFERENCES)
def test_what_the_body_only_names_may_be_the_whole_window(api: str, body: dict[str, Any]) -> None:
    assert asked(body, Reach(max_input=200_000), api=api) == 200_000
    assert asked(body, api=api) < 1000  # where nobody says how large it is


def test_a_callers_own_tools_name_nothing() -> None:
    body = {**ASK, "tools": [{"type": "function", "function": {"name": "web_search", "parameters": {}}}]}
    assert asked(body, Reach(max_input=200_000)) < 1000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "n", "best_of", "messages", "input", "tools", "max_output_tokens", "stream"]),
        _JSON | st.lists(st.fixed_dictionaries({"type": st.just("image"), "content": _JSON}), max_size=3),
    )
)
def test_no_body_makes_an_estimate_fail_or_negative(body: dict[str, Any]) -> None:
    for api in ("chat", "responses", "embeddings"):
        found = model(api, body)
        assert input_tokens(found.call, sent_bytes(found), Reach(max_input=500)) >= 0
        assert output_tokens(found.call, Reach())[0] >= 0
