"""Response lines: checked before they leave, remembered without confusing two of them, bounded."""

from __future__ import annotations

import pytest

from gateway.wire.lines import KEPT_BYTES, KEPT_LINES, HeaderLines


@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\r\n", b"\x00", b"\x1b", b"\x7f"])
def test_a_byte_that_may_not_leave_is_refused_in_name_and_value_every_time(bad: bytes) -> None:
    lines = HeaderLines()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="may not leave"):
            lines.line((b"x-name", b"a" + bad + b"b"))
        with pytest.raises(RuntimeError, match="may not leave"):
            lines.line((b"x" + bad, b"a"))


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"\xe4"])
def test_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(RuntimeError, match="may not leave"):
        HeaderLines().line((name, b"1"))


def test_the_same_header_is_the_same_line_and_another_is_another() -> None:
    lines = HeaderLines()
    first = lines.line((b"Content-Type", b"text/plain"))
    assert first == b"content-type: text/plain\r\n"
    assert lines.line((b"Content-Type", b"text/plain")) is first
    assert lines.line((b"content-type", b"text/html")) == b"content-type: text/html\r\n"


@pytest.mark.parametrize("name", [b"Content-Length", b"date", b"Connection", b"transfer-encoding", b"upgrade"])
def test_what_is_decided_per_response_is_no_line_of_its_own(name: bytes) -> None:
    assert HeaderLines().line((name, b"1")) is None


def test_what_is_remembered_is_bounded() -> None:
    lines = HeaderLines()
    for number in range(3 * KEPT_LINES):
        lines.line((b"x-trace", b"%d" % number))
    lines.line((b"x-long", b"x" * KEPT_BYTES))
    lines.line((b"x-request-id", b"1"))
    assert len(lines._known) <= KEPT_LINES
    assert (b"x-long", b"x" * KEPT_BYTES) not in lines._known
    assert (b"x-request-id", b"1") not in lines._known
