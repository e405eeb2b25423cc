"""What a person is shown of a change: everything that differs, and nothing that could deceive."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.differences import changed, unified, visible

TOOL: dict[str, Any] = {
    "name": "t",
    "description": "one\ntwo",
    "inputSchema": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]},
}


@pytest.mark.parametrize(
    ("after", "paths"),
    [
        ({}, []),
        ({"description": "one\ntwo "}, ["description"]),
        ({"title": "T"}, ["title"]),
        ({"inputSchema": {"type": "object", "properties": {"to": {"type": "number"}}, "required": ["to"]}},
         ["inputSchema.properties.to.type"]),
        ({"inputSchema": {"type": "object", "properties": {}, "required": ["to", "cc"]}},
         ["inputSchema.properties.to", "inputSchema.required"]),
        ({"inputSchema": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["cc"]}},
         ["inputSchema.required[0]"]),
        ({"inputSchema": None}, ["inputSchema"]),
        ({"description": ["one\ntwo"]}, ["description"]),
    ],
)  # fmt: skip
def test_the_members_that_differ_are_named_by_their_paths(after: dict[str, Any], paths: list[str]) -> None:
    assert changed(TOOL, {**TOOL, **after}) == paths


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, "1"), (None, "null"), ([], {}), ("", None)])
def test_values_that_compare_equal_in_some_language_differ(one: Any, other: Any) -> None:
    assert changed({"a": one}, {"a": other}) == ["a"]
    assert unified({"a": one}, {"a": other}) != ""


def test_a_missing_member_is_not_null() -> None:
    assert changed({}, {"a": None}) == ["a"]
    assert changed(1, 2) == ["all of it"]


def test_the_diff_goes_member_by_member_and_line_by_line() -> None:
    assert unified(TOOL, TOOL) == ""
    lines = unified(TOOL, {**TOOL, "description": "one\nthree", "annotations": {"readOnlyHint": True}}).splitlines()
    assert lines[:2] == ["--- approved", "+++ seen"]
    assert [line for line in lines if line[0] in "+-"][2:] == [
        "+annotations:",
        "+  readOnlyHint: true",
        "-  two",
        "+  three",
    ]
    assert unified(None, {"a": 1}).splitlines()[-1] == "+a: 1"


@pytest.mark.parametrize(
    "mark",
    ["\u202e", "\u200b", "\u2066", "\U000e0041", "\x1b", "\x00", "\x07", "\r", "\x85", "\u2028", "\ufeff", "\u00ad",
     "\ud800", "\u00a0"],
)  # fmt: skip
def test_what_cannot_be_seen_is_written_out(mark: str) -> None:
    hidden = {"description": f"a{mark}b", f"k{mark}": 1, "lines": f"x\n{mark}"}
    for text in (unified({"description": "ab"}, hidden), "\n".join(changed({}, hidden)), visible(f"a{mark}b")):
        assert mark not in text
        assert all(each.isprintable() or each == "\n" for each in text)


def test_a_newline_in_a_name_or_a_value_forges_no_line() -> None:
    forged = {"description": 'fine\n+name: "other"\n--- approved', "x\n-name": 1}
    lines = unified({"description": "fine", "name": "t"}, {**forged, "name": "t"}).splitlines()
    assert ' name: "t"' in lines
    assert '++name: "other"' not in lines
    assert '+  +name: "other"' in lines
    assert "+x\\n-name: 1" in lines
