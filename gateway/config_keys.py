"""The sections about the gateway's own private keys, and about the vault that may keep them and any other secret.

The rule: a passphrase is a secret like any other, and what it protects says so itself: a key file that is not encrypted
is refused where there is one. The vault's own token is not in the vault.
"""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gateway import config_values as values
from gateway.config_schema import Of, Text, option
from gateway.config_secrets import SecretRef
from gateway.config_values import Secret

_BASE_URL = Text("an http or https URL that does not end with a slash", parse=values.parse_base_url)
_MOUNT = Text("where an engine is mounted, without slashes at its ends", r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*")
_KEY = Text("the name of a key in the vault", r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")
_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_PATH = Text("a path on this machine", r"[^\x00]+", Path)


@dataclass(frozen=True, slots=True)
class Vault:
    """HashiCorp Vault or OpenBao: where `{vault: path#field}` leads."""

    url: str = option(_BASE_URL, why="its address, https", shown="https://vault.example:8200")
    token: Secret = option(
        SecretRef(vault=False), why="{env: NAME} or {file: PATH}", shown="{file: /run/secrets/vault}"
    )
    mount: str = option(_MOUNT, "secret", "where its KV engine (version 2) is", shown="secret")
    transit: str = option(_MOUNT, "transit", "where its transit engine is", shown="transit")
    namespace: str = option(_MOUNT, "", "of an enterprise installation", example="teams/gateway")
    ca: Path | None = option(_PATH, None, "PEM to believe instead of the system's", example="/etc/tollgate/ca.pem")
    timeout: float = option(_DURATION, 5.0, "for each question", shown="5s")


@dataclass(frozen=True, slots=True)
class Transit:
    """Keys that never leave the vault, by purpose. Cards are signed while they are served and have none."""

    log: str | None = option(_KEY, None, "its name there; each checkpoint asks the vault", example="tollgate-log")
    manifests: str | None = option(_KEY, None, "as the log's", example="tollgate-manifests")
    bundles: str | None = option(_KEY, None, "as the log's", example="tollgate-bundles")
    tokens: str | None = option(_KEY, None, "as the log's", example="tollgate-tokens")
    webhooks: str | None = option(_KEY, None, "as the log's", example="tollgate-webhooks")


@dataclass(frozen=True, slots=True)
class Keys:
    """Below `<data_dir>/keys`."""

    overlap: float = option(_DURATION, 7 * 86400.0, "a key that signs no more stays published so long", shown="7d")
    passphrase: Secret | None = option(
        SecretRef(), None, "what they are encrypted under; without it they are not", example="{file: /run/secrets/keys}"
    )
    transit: Transit | None = option(Of(Transit), None, "new keys of these purposes are made in the vault")


OpenVault: TypeAlias = "Callable[[Vault], Callable[[str, str], str]]"
"""A reader of secrets, by path and field, of a vault. The reader raises OSError, whose text names no secret."""
