"""The front knows no path and no user agent: a probe is a request like any other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.front_rig import Listener, listening, request

ROW = 22


@pytest.fixture(scope="module")
def front() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.mark.parametrize(
    "target", [b"/healthz", b"/readyz", b"/health", b"/ping", b"/metrics", b"/robots.txt", b"/favicon.ico"]
)
@pytest.mark.parametrize("agent", [b"kube-probe/1.31", b"GoogleHC/1.0", b"ELB-HealthChecker/2.0", b""])
def test_a_probe_reaches_the_application_as_any_request(front: Listener, target: bytes, agent: bytes) -> None:
    before = len(front.seen)
    [answer] = front.ask(request(b"GET", target, b"User-Agent: " + agent, b"Connection: close"))
    assert answer.values(b"proxy-status") == []
    [seen] = front.seen[before:]
    assert seen.head.path.encode() == target
    assert seen.head.first(b"user-agent") == agent


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS"])
def test_no_method_is_answered_without_the_application(front: Listener, method: bytes) -> None:
    before = len(front.seen)
    with front.connect() as wire:
        wire.send(request(method, b"/healthz", b"Connection: close"))
        assert wire.read(head=method == b"HEAD")
    assert len(front.seen) == before + 1


def test_an_override_header_does_not_make_another_method_of_it(front: Listener) -> None:
    for name in (b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"):
        assert front.refused(request(b"POST", b"/", name + b": DELETE")).status == 400
