"""What a running gateway tells others: usage events to a sink, alerts to a webhook, from the records it wrote."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.flows.aside import Aside
from tests.flows.spending import Vendor, asked
from tests.notices.receiver import Receiver
from tests.rig import Running, gateway, until

ALLOW = 'package tollgate\n\ndecision := {"decision": true, "context": {"rule": "all", "reason": "all may"}}\n'
PRICES = "currency: usd\nmodels:\n  - {model: 'spend-*', input: 1, output: 2, max_output_tokens: 64}\n"


@contextmanager
def receiver(*answers: int | None) -> Iterator[Receiver]:
    """A web server in a thread of its own."""
    found = Receiver([*answers] or [204])
    server = Aside(found.serve)
    found.url = f"http://127.0.0.1:{server.port}/hook"
    try:
        yield found
    finally:
        server.close()


@contextmanager
def vendor() -> Iterator[Vendor]:
    found = Vendor()
    try:
        yield found
    finally:
        found.close()


def settings(folder: Path, model: Vendor, **more: Any) -> dict[str, Any]:
    (folder / "policy").mkdir(exist_ok=True)
    (folder / "policy" / "all.rego").write_text(ALLOW)
    (folder / "prices.yaml").write_text(PRICES)
    return {
        "policy": {"bundle": str(folder / "policy")},
        "prices": str(folder / "prices.yaml"),
        "upstreams": {"model": {"url": f"http://127.0.0.1:{model.port}/v1", "protocol": "openai"}},
        "routes": [{"name": "model", "match": {"path": "/model"}, "upstream": "model"}],
        **more,
    }


def call(served: Running, output: int = 5, how: str = "ok", most: int = 30) -> httpx.Response:
    return httpx.post(
        served.url + "/model/v1/chat/completions",
        content=asked(how, output, most),
        headers={"authorization": f"Bearer {served.issuer.token()}", "content-type": "application/json"},
    )


def test_every_outcome_is_an_event_over_a_restart_and_a_sink_that_is_away(tmp_path: Path) -> None:
    with vendor() as model, receiver(503, 204) as sink:
        whole = settings(tmp_path, model, usage={"events": {"url": sink.url, "every": "50ms"}})
        with gateway(tmp_path, **whole) as served:
            assert [call(served).status_code for _ in range(3)] == [200] * 3
            until(lambda: len(sink.bodies) >= 2, what="the second try")
        with gateway(tmp_path, **whole) as served:
            call(served)
            records = [record for record in served.records() if record["kind"] == "outcome"]

            def told() -> list[dict[str, Any]]:
                return [event for body in sink.bodies[1:] for event in json.loads(body)]

            until(lambda: {event["id"] for event in told()} == {record["id"] for record in records}, what="all events")
    by_id = {event["id"]: event for event in told()}
    for record in records:
        event = by_id[record["id"]]
        assert (event["source"], event["subject"], event["time"]) == ("rig", "acme", record["time"])
        assert event["data"]["usd"] == record["usage"]["usd"] == "0.00002"
        assert (event["data"]["input_tokens"], event["data"]["output_tokens"]) == (10, 5)
    assert sink.headers[0]["content-type"] == "application/cloudevents-batch+json"


def test_a_mark_and_a_stop_are_told_once_and_signed_with_the_gateway_s_own_key(tmp_path: Path) -> None:
    budgets = [
        {"name": "org", "key": ["subject.org"], "unit": "calls", "amount": 4, "period": "month", "warn_at": ["50%"]}
    ]
    with vendor() as model, receiver() as hook:
        alerts = {"webhooks": [{"name": "ops", "url": hook.url}]}
        with gateway(tmp_path, **settings(tmp_path, model, budgets=budgets, alerts=alerts)) as served:
            assert [call(served).status_code for _ in range(6)] == [200] * 4 + [402] * 2
            until(lambda: len(hook.bodies) >= 2, what="two alerts")
            keys = httpx.get(served.url + "/.well-known/jwks.json").json()["keys"]
        with gateway(tmp_path, **settings(tmp_path, model, budgets=budgets, alerts=alerts)) as served:
            assert call(served).status_code == 402
            records = served.records()
            until(lambda: served.app.notices.alerting._place.seq >= records[-1]["seq"], what="the end of the log")
    assert [json.loads(body)["type"] for body in hook.bodies] == ["tollgate.mark", "tollgate.stop"]
    mark, stop = (json.loads(body)["data"] for body in hook.bodies)
    assert (mark["budget"], mark["mark"], mark["key"]) == ("org", 500, ["acme"])
    assert (stop["budget"], stop["key"], stop["unit"]) == ("org", ["acme"], "calls")
    for headers, body in zip(hook.headers, hook.bodies, strict=True):
        version, _, signature = headers["webhook-signature"].partition(",")
        assert version == "v1a"
        content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        assert any(believed(key["x"], signature, content) for key in keys)


def believed(x: str, signature: str, content: bytes) -> bool:
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=="))
    try:
        key.verify(base64.b64decode(signature), content)
    except InvalidSignature:
        return False
    return True


def test_a_receiver_that_hangs_slows_no_request_and_holds_up_no_end(tmp_path: Path) -> None:
    with vendor() as model, receiver() as hook:
        hanging = threading.Event()

        def hang(headers: dict[str, str], body: bytes) -> None:
            hanging.wait(20)

        hook.told = hang
        more = {"alerts": {"webhooks": [{"name": "ops", "url": hook.url}]}, "usage": {"events": {"url": hook.url}}}
        with gateway(tmp_path, **settings(tmp_path, model, **more)) as served:
            call(served)
            until(lambda: len(hook.bodies) >= 1, what="the event")
            assert [call(served).status_code for _ in range(5)] == [200] * 5
        hanging.set()
