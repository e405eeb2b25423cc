"""Row 52: what a caller wrote cannot end a log line, colour a terminal or forge a second record."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.cli.audit import _line
from gateway.cli.output import printable
from gateway.control.page import login_page, status_page
from gateway.telemetry import log_to

ROW = 52
EVIL = [
    "a\nb", "a\r\nb", "a\x1b[2Jb", "a\x1b]0;title\x07b", "a\u2028b", "a\u2029b", "a\x85b", "a\x9b31mb", "a\x00b",
    "a\x7fb",
    "a\u202eb", "a\x08\x08b", '"}\n{"event":"forged"}',
]  # fmt: skip


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, own = logging.getLogger(), logging.getLogger("tollgate")
    handlers, level, own_level = list(root.handlers), root.level, own.level
    found = io.StringIO()
    log_to(found, "info")
    yield found
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.parametrize("evil", EVIL)
def test_one_record_is_one_line_of_printable_ascii(stream: io.StringIO, evil: str) -> None:
    logging.getLogger("tollgate.wire").warning("refused %s", evil)
    structlog.get_logger("tollgate.wire").warning("refused", path=evil, **{"k" + evil: evil})
    try:
        raise ValueError(evil)
    except ValueError:
        logging.getLogger("tollgate.wire").exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert json.loads(lines[0])["event"] == f"refused {evil}"


@pytest.mark.parametrize("evil", EVIL)
def test_the_command_line_prints_one_harmless_line_for_a_record(evil: str) -> None:
    record = {"seq": 1, "kind": "refusal", "subject": {"id": evil}, "action": evil, "resource": {"id": evil}}
    line = _line(record, published=True)
    assert line.isprintable()
    assert all(mark == "\n" or mark.isprintable() for mark in printable(evil))


@pytest.mark.parametrize("evil", EVIL)
def test_the_status_page_shows_no_control_character(evil: str) -> None:
    page = status_page({"node": evil}, [{"name": evil}], [{"seq": 1, "action": evil}]) + login_page(evil)
    body = page.partition("</style>")[2]
    assert all(mark.isprintable() or mark == "\n" for mark in body)
    assert evil not in page
