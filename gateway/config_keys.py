"""The sections about the gateway's own private keys.

The rule: a passphrase is a secret like any other, and what it protects says so itself: a key file that is not encrypted
is refused where there is one.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass

from gateway.config_schema import SecretRef, option
from gateway.config_values import Secret


@dataclass(frozen=True, slots=True)
class Keys:
    """Below `<data_dir>/keys`."""

    passphrase: Secret | None = option(
        SecretRef(), None, "what they are encrypted under; without it they are not", example="{file: /run/secrets/keys}"
    )
