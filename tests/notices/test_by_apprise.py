"""Apprise to a real mail server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from gateway.core.notices import Alert, Letter, NotSent
from gateway.notices.by_apprise import ByApprise, Unusable
from tests.rig import run


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(BytesParser(policy=default).parsebytes(envelope.content))  # type: ignore[arg-type]
        return "250 OK"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, str]]:
    box, port = Mailbox(), free_port()
    controller = Controller(box, "127.0.0.1", port)
    controller.start()
    try:
        yield box, f"mailto://127.0.0.1:{port}?from=gw@example.com&to=ops@example.com&mode=insecure&smtp=127.0.0.1"
    finally:
        controller.stop()


def letter(n: int) -> Letter:
    alert = Alert(f"k{n}", "stop", "2026-09-21T14:13:20.000000Z", "b", f"Title {n}", f"Text {n}: ü", {})
    return Letter(f"letter-{n}", "mail", alert, 0, 0.0)


def test_letters_that_wait_are_one_mail() -> None:
    with mail_server() as (box, url):
        channel = ByApprise("mail", url, "gw-1")
        run(channel.send([letter(1)]))
        run(channel.send([letter(2), letter(3)]))
        channel.close()
    first, second = box.mails
    assert first["subject"] == "[gw-1] Title 1"
    assert first["to"] == "ops@example.com"
    assert second["subject"] == "[gw-1] Title 2 and 1 more"
    body = second.get_body(("plain", "html"))
    assert body is not None
    assert "Text 2: ü" in body.get_content()
    assert "Text 3: ü" in body.get_content()


def test_a_mail_server_that_is_away_is_not_the_end() -> None:
    channel = ByApprise("mail", f"mailto://127.0.0.1:{free_port()}?from=a@b.example&to=c@d.example&mode=insecure", "gw")
    with pytest.raises(NotSent):
        run(channel.send([letter(1)]))
    channel.close()


def test_a_url_that_apprise_cannot_use_is_refused_without_being_told() -> None:
    with pytest.raises(Unusable, match=r"alerts\.apprise mail") as refused:
        ByApprise("mail", "nothing://user:hunter2@host", "gw")
    assert "hunter2" not in str(refused.value)
