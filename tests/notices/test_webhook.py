"""Webhooks: what is sent, and that a receiver's own library believes its signature. The receiver is a process."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook as Standard
from standardwebhooks import WebhookVerificationError

from gateway.core.notices import Alert, Letter, NotSent
from gateway.notices.signing import Sign, own_key, shared_secret
from gateway.notices.webhook import Webhook
from gateway.trust.fetcher import GuardedFetcher
from gateway.wire.fetch import Carrier
from tests.notices.receiver import receiving
from tests.rig import ROOT, run

SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()
LETTER = Letter(
    "letter-1",
    "ops",
    Alert("k", "stop", "2026-09-21T14:13:20.000000Z", "b", "Title", "Text", {"budget": "b", "key": ["a"], "x": None}),
    0,
    0.0,
)


def channel(url: str, sign: Sign) -> Webhook:
    return Webhook("ops", url, sign, "gw-1", GuardedFetcher(Carrier()), time.time)


@contextmanager
def process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.notices.receiver"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as found:
        assert found.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(found.stdout.readline())}/hook", found
        finally:
            found.kill()


def test_a_receiver_with_the_secret_believes_the_message_and_one_with_another_does_not() -> None:
    with process() as (url, receiver):
        run(channel(url, shared_secret(SECRET)).send([LETTER]))
        assert receiver.stdout is not None
        told = json.loads(receiver.stdout.readline())
    said = Standard(SECRET).verify(told["body"], told["headers"])
    assert said == {
        "type": "tollgate.stop",
        "timestamp": "2026-09-21T14:13:20.000000Z",
        "data": {"node": "gw-1", "title": "Title", "text": "Text", "budget": "b", "key": ["a"]},
    }
    assert told["headers"]["webhook-id"] == "letter-1"
    with pytest.raises(WebhookVerificationError):
        Standard("whsec_" + base64.b64encode(b"t" * 24).decode()).verify(told["body"], told["headers"])
    with pytest.raises(WebhookVerificationError):
        Standard(SECRET).verify(told["body"].replace("Text", "Next"), told["headers"])


def test_without_a_secret_the_gateway_s_own_key_signs() -> None:
    key = Ed25519PrivateKey.generate()

    async def story() -> None:
        async with receiving(200) as receiver:
            await channel(receiver.url, own_key(key.sign)).send([LETTER])
            [headers], [body] = receiver.headers, receiver.bodies
            version, _, signature = headers["webhook-signature"].partition(",")
            assert version == "v1a"
            content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            key.public_key().verify(base64.b64decode(signature), content)

    run(story())


@pytest.mark.parametrize("answer", [301, 400, 401, 500, 503, None])
def test_anything_but_a_2xx_is_not_taken(answer: int | None) -> None:
    async def story() -> None:
        async with receiving(answer, more=("retry-after: 30",)) as receiver:
            with pytest.raises(NotSent) as failed:
                await channel(receiver.url, shared_secret(SECRET)).send([LETTER])
            assert failed.value.after == (30.0 if answer in (400, 401, 500, 503) else None)

    run(story())


def test_a_vault_that_cannot_sign_is_no_end_of_it() -> None:
    def away(content: bytes) -> bytes:
        raise OSError("the vault is away")

    with pytest.raises(NotSent, match="vault is away"):
        run(channel("http://127.0.0.1:9/", own_key(away)).send([LETTER]))


@pytest.mark.parametrize(
    "text", ["", "hunter2", "whsec_", "whsec_%%%", "whsec_" + base64.b64encode(b"s" * 23).decode()]
)
def test_a_secret_that_protects_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_") as refused:
        shared_secret(text)
    assert str(refused.value) == "a webhook's secret is whsec_ and base64 of at least 24 bytes"
