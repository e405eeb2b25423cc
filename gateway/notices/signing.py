"""Signs webhooks as Standard Webhooks has it: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

What is signed is `<id>.<timestamp>.<body>`, with a shared secret (HMAC-SHA256, `v1`) or with the gateway's own key
(Ed25519, `v1a`, whose public half is in the key set). A receiver checks the signature, that the time is near, and that
it has not seen the id: the id is the same at each try.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import TypeAlias

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 24  # a shorter secret is refused

Sign: TypeAlias = "Callable[[bytes], str]"
"""The signature of what is to be signed, with its version. May wait, for a key in a vault. Raises OSError."""


def shared_secret(text: str) -> Sign:
    """`whsec_` and base64. Raises ValueError, which quotes nothing."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(SECRET_PREFIX) or len(key) < SECRET_BYTES:
        raise ValueError(f"a webhook's secret is {SECRET_PREFIX} and base64 of at least {SECRET_BYTES} bytes")
    return lambda content: "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def own_key(sign: Callable[[bytes], bytes]) -> Sign:
    """`sign` is Ed25519 over what it is given."""
    return lambda content: "v1a," + base64.b64encode(sign(content)).decode()


def signed(sign: Sign, ident: str, now: float, body: bytes) -> tuple[tuple[str, str], ...]:
    """The headers of a message."""
    moment = str(int(now))
    return (
        ("webhook-id", ident),
        ("webhook-timestamp", moment),
        ("webhook-signature", sign(f"{ident}.{moment}.".encode() + body)),
    )
