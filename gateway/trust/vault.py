"""HashiCorp Vault or OpenBao: secrets of a KV engine (version 2), and Ed25519 keys of a transit engine that sign there.

1. What leaves is one question to the configured address, with the configured token: no proxy of the environment, no
redirect, a deadline, a bound on the answer. 2. What comes back is believed only as far as it fits: a text for a secret,
32 bytes for a public key, 64 bytes by the asked version for a signature. 3. Every failure is VaultFailed, whose text
names path and reason, never a value or the token. Its calls wait, so they are never made in the event loop.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import hvac  # type: ignore[import-untyped]
import requests

ANSWER_BYTES: Final = 1024 * 1024
_SIGNATURE = re.compile(r"vault:v([0-9]{1,9}):([A-Za-z0-9+/]+={0,2})")
_REFERENCE = re.compile(r"(.+):([0-9]{1,9})")
_T = TypeVar("_T")


class VaultFailed(OSError):
    """The vault was not reached, refused, or said what it should not; `args[0]` says which."""


class NotInVault(VaultFailed):
    """It answered that there is no such secret or key."""


@dataclass(frozen=True, slots=True)
class VaultSettings:
    url: str
    token: str = field(repr=False)
    mount: str = "secret"
    transit: str = "transit"
    namespace: str = ""
    ca: str | None = None
    timeout_s: float = 5.0


class Vault:
    """One connection, one question at a time; any thread."""

    def __init__(self, settings: VaultSettings) -> None:
        session = requests.Session()
        session.trust_env = False  # 1: neither proxies nor certificates nor ~/.netrc
        session.verify = settings.ca or True  # hvac believes the session, not its own argument
        session.stream = True
        session.hooks["response"].append(_bounded)
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Any = hvac.Client(
            url=settings.url,
            token=settings.token,
            namespace=settings.namespace or None,
            timeout=settings.timeout_s,
            allow_redirects=False,
            session=session,
        )

    def read(self, path: str, name: str) -> str:
        """The field of that name of the newest version of a secret. Raises NotInVault where there is no such secret."""
        found = self._asked(
            f"the secret {path}",
            lambda: self._client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=self._settings.mount, raise_on_deleted_version=True
            )["data"]["data"],
        )
        value = found.get(name) if isinstance(found, dict) else None
        if not isinstance(value, str):
            raise VaultFailed(f"the secret {path} in the vault has no text field {name}")
        return value

    def make(self, key: str) -> tuple[str, bytes]:
        """A new key: the first version of `key`, or its next. Its reference, and its public half."""
        transit, mount = self._client.secrets.transit, self._settings.transit
        versions = self._versions(key)
        if versions is None:
            self._asked(
                f"the key {key}",
                lambda: transit.create_key(name=key, key_type="ed25519", exportable=False, mount_point=mount),
            )
        else:
            self._asked(f"the key {key}", lambda: transit.rotate_key(name=key, mount_point=mount))
        now = self._versions(key) or {}
        fresh = sorted(set(now) - set(versions or {}))
        if len(fresh) != 1:
            raise VaultFailed(f"the vault made no new version of the key {key}, or somebody else did at the same time")
        return f"{key}:{fresh[0]}", now[fresh[0]]

    def sign(self, reference: str, data: bytes) -> bytes:
        """64 bytes by exactly the version that `reference` names."""
        named = _REFERENCE.fullmatch(reference)
        if named is None:
            raise VaultFailed(f"{reference} names no key of a vault and its version")
        key, version = named[1], int(named[2])
        answer = self._asked(
            f"the key {key}",
            lambda: self._client.secrets.transit.sign_data(
                name=key,
                hash_input=base64.b64encode(data).decode(),
                key_version=version,
                mount_point=self._settings.transit,
            )["data"]["signature"],
        )
        found = _SIGNATURE.fullmatch(answer) if isinstance(answer, str) else None
        signature = base64.b64decode(found[2]) if found is not None else b""
        if found is None or int(found[1]) != version or len(signature) != 64:  # 2
            raise VaultFailed(f"the vault's signature by the key {key} is not one of its version {version}")
        return signature

    def _versions(self, key: str) -> dict[int, bytes] | None:
        """Public halves by version; None where there is no such key."""
        try:
            found = self._asked(
                f"the key {key}",
                lambda: self._client.secrets.transit.read_key(name=key, mount_point=self._settings.transit)["data"],
            )
        except NotInVault:
            return None
        if not isinstance(found, dict) or found.get("type") != "ed25519" or not isinstance(found.get("keys"), dict):
            raise VaultFailed(f"the key {key} in the vault is not an ed25519 key")
        return {int(version): _public(key, item) for version, item in found["keys"].items()}

    def _asked(self, what: str, question: Callable[[], _T]) -> _T:
        """Rule 3: whatever goes wrong on the way has one name."""
        try:
            with self._lock:
                return question()
        except hvac.exceptions.InvalidPath:
            raise NotInVault(f"{what} is not in the vault") from None
        except hvac.exceptions.Forbidden:
            raise VaultFailed(f"the vault's token may not use {what}") from None
        except hvac.exceptions.VaultError as error:
            raise VaultFailed(f"the vault refused {what}: {type(error).__name__}") from None
        except requests.RequestException as error:
            raise VaultFailed(f"the vault at {self._settings.url} does not answer: {type(error).__name__}") from None
        except (KeyError, TypeError, ValueError):
            raise VaultFailed(f"the vault's answer about {what} cannot be read") from None


def _public(key: str, item: object) -> bytes:
    try:
        public = base64.b64decode(item["public_key"], validate=True) if isinstance(item, dict) else b""
    except (KeyError, TypeError, ValueError):
        public = b""
    if len(public) != 32:
        raise VaultFailed(f"the key {key} in the vault has no Ed25519 public half")
    return public


def _bounded(response: Any, *_: object, **__: object) -> None:
    """Rule 1: the answer is read here, as far as one may be long."""
    try:
        data = response.raw.read(ANSWER_BYTES + 1, decode_content=True)
    finally:
        response.close()
    if len(data) > ANSWER_BYTES:
        raise VaultFailed(f"the vault's answer is larger than {ANSWER_BYTES} bytes")
    response._content = data  # the one way to hand a bounded body on (requests reads all of a body, or none)
    response._content_consumed = True
