"""Request targets and authorities: one spelling of a place, or none."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.reasons import Refusal
from gateway.wire.target import read_absolute, read_authority, read_target
from tests.thorough import examples

QUIET = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no fault


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a/b", "/a/b", ""),
        (b"/a/", "/a/", ""),
        (b"/a//b", "/a//b", ""),
        (b"/a?b=/../c", "/a", "b=/../c"),
        (b"/a?b=%2e%2e%2f%5c%0a", "/a", "b=%2e%2e%2f%5c%0a"),
        (b"/a?b?c", "/a", "b?c"),
        (b"/a;v=1/b", "/a;v=1/b", ""),
        (b"/.well-known/x", "/.well-known/x", ""),
        (b"/a/...", "/a/...", ""),
        (b"/a..b/.c/d.", "/a..b/.c/d.", ""),
        (b"/%C3%A4", "/%C3%A4", ""),
        (b"/a%20b%25%3F%23", "/a%20b%25%3F%23", ""),
        (b"/message:send", "/message:send", ""),
        (b"/x?q={a|b}^`[]", "/x", "q={a|b}^`[]"),
        (b"/~me/!$&'()*+,=@|[]", "/~me/!$&'()*+,=@|[]", ""),
    ],
)
def test_a_good_target_stays_byte_for_byte(raw: bytes, path: str, query: str) -> None:
    assert read_target(raw) == (raw.decode(), path, query)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "form"), (b"a", "form"), (b"*", "form"), (b"?a", "form"), (b"//evil/a", "form"), (b"//", "form"),
        (b"http:/a", "form"),
        (b"/a#b", "character"), (b"/#", "character"), (b"/a?b#c", "character"), (b"/a\\b", "character"),
        (b"/a?b\\c", "character"), (b"/a b", "character"), (b"/a\x00", "character"), (b"/a\x1b[0m", "character"),
        (b"/\xc3\xa4", "character"), (b"/a?\xff", "character"), (b"/<a>", "character"), (b'/"', "character"),
        (b"/a{b}", "character"), (b"/a\t", "character"),
        (b"/%", "escape"), (b"/%2", "escape"), (b"/%zz", "escape"), (b"/a%u002e", "escape"), (b"/a?%", "escape"),
        (b"/a?%g0", "escape"), (b"/%00", "escape"), (b"/a?b=%00", "escape"), (b"/a%2fb", "escape"),
        (b"/a%2Fb", "escape"), (b"/a%5cb", "escape"), (b"/a%252fb", "escape"), (b"/a%25252Fb", "escape"),
        (b"/a%255C", "escape"), (b"/a%2500", "escape"), (b"/a%0d%0a", "escape"), (b"/a%1b", "escape"),
        (b"/a%7f", "escape"), (b"/%ff", "escape"), (b"/%c0%ae", "escape"), (b"/%c0%af", "escape"),
        (b"/%e4", "escape"), (b"/%ed%a0%80", "escape"),
        (b"/.", "dots"), (b"/..", "dots"), (b"/./a", "dots"), (b"/../a", "dots"), (b"/a/..", "dots"),
        (b"/a/.?b", "dots"), (b"/a/../b", "dots"), (b"/%2e", "dots"), (b"/%2E%2e/a", "dots"), (b"/.%2e/a", "dots"),
        (b"/a/%2e./b", "dots"), (b"/a/..;/b", "dots"), (b"/a/..;x=1/b", "dots"), (b"/a/.;/b", "dots"),
        (b"/a/..%3b/b", "dots"), (b"/a/%252e%252e/b", "dots"), (b"/a/%25252e/b", "dots"), (b"/a/..%253B/b", "dots"),
    ],
)  # fmt: skip
def test_every_other_spelling_is_refused(raw: bytes, rule: str) -> None:
    found = read_target(raw)
    assert isinstance(found, Refusal), found
    assert (found.rule, found.http_status) == (f"target.{rule}", 400)


def test_a_target_has_a_length() -> None:
    assert isinstance(read_target(b"/" + b"a" * 8191), tuple)
    found = read_target(b"/" + b"a" * 8192)
    assert isinstance(found, Refusal)
    assert found.http_status == 414


SEGMENTS = st.lists(
    st.sampled_from(["a", ".", "..", "%2e", "%2E", "%252e", "%2f", "%5c", ";", "%3b", "b.c", "", "%41", "%25", "x;y"]),
    min_size=1, max_size=4,
).map("".join)  # fmt: skip


@settings(QUIET, max_examples=examples(1500))
@given(st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts)))
def test_decoding_and_normalising_leads_nowhere_else(path: str) -> None:
    """However often a server decodes, and whether it cuts path parameters, no segment is a dot and none is born."""
    found = read_target(path.encode())
    if isinstance(found, Refusal):
        return
    seen = path
    for _ in range(4):
        assert seen.count("/") == path.count("/")
        assert "\\" not in seen
        bare = "/".join(part.partition(";")[0] for part in seen.split("/"))
        for one in (seen, bare):
            assert not {".", ".."} & set(one.split("/"))
            assert posixpath.normpath(one).count("/") <= one.count("/")
        seen = unquote(seen)


@settings(QUIET, max_examples=examples(2000))
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda tail: b"/" + tail)))
def test_any_bytes_are_a_target_or_a_refusal(raw: bytes) -> None:
    found = read_target(raw)
    if not isinstance(found, Refusal):
        target, path, query = found
        assert target.encode("ascii") == raw
        assert target in (path, f"{path}?{query}")
    read_authority(raw)
    read_absolute(raw, "http", "a")


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"http://gw.example/a?b", b"/a?b"),
        (b"HTTP://GW.example/a", b"/a"),
        (b"http://gw.example", b"/"),
        (b"http://gw.example/", b"/"),
    ],
)
def test_an_absolute_target_of_our_own_is_its_origin_form(raw: bytes, wanted: bytes) -> None:
    assert read_absolute(raw, "http", "gw.example") == wanted


@pytest.mark.parametrize(
    "raw",
    [
        b"http://evil/a", b"http://gw.example:80/a", b"https://gw.example/a", b"http://user@gw.example/a",
        b"http://gw.example@evil/a", b"http:///a", b"http://gw.example?a", b"http://gw.example#a", b"ftp://gw.example/a",
        b"http:gw.example/a", b"http:/gw.example/a", b"//gw.example/a", b"*", b"gw.example:443", b"mailto:a@b",
        b"http://gw.example\\@evil/", b"http://gw.example.evil/a", b"javascript:x", b"http://gw.example%2f/a",
    ],
)  # fmt: skip
def test_every_other_absolute_or_opaque_target_is_refused(raw: bytes) -> None:
    assert isinstance(read_absolute(raw, "http", "gw.example"), Refusal)
