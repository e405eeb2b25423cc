"""How a secret is named in the configuration, and read from where it is.

The rule it keeps: a secret is never read from the configuration itself, never shown, never part of an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config_schema import Reading
from gateway.config_values import Secret
from gateway.config_yaml import Node
from gateway.core.canonical import Json

SECRET_LIMIT_BYTES = 64 * 1024  # a key file or token; more is the wrong file

# A path in a vault, and the field of the secret there.
_VAULTED: Final = r"([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)#([A-Za-z0-9_.-]+)"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """`{env: NAME}`, `{file: PATH}` or `{vault: path#field}`. `may_lack`: the file is made by the program when it is
    not there. `vault`: off for what opens the vault."""

    may_lack: bool = False
    vault: bool = True

    def read(self, node: Node, key: str, at: Reading) -> Any:
        at.places[key] = node.place
        if not isinstance(node.value, dict) or len(node.value) != 1:
            what = "a secret never stands in the configuration" if isinstance(node.value, str) else "not a secret"
            return at.fail(node, key, what, self._says())
        [(way, child)] = node.value.items()
        if way not in self._ways() or not isinstance(child.value, str) or not child.value:
            return at.fail(child, f"{key}.{way}", "not a secret", self._says())
        if way == "vault":
            return self._from_vault(child, f"{key}.vault", child.value, at)
        if way == "env":
            return self._from_environment(child, f"{key}.env", child.value, at)
        return self._from_file(child, f"{key}.file", Path(child.value), at)

    def _ways(self) -> tuple[str, ...]:
        return ("env", "file", "vault") if self.vault else ("env", "file")

    def _says(self) -> str:
        ways = "{env: NAME}, {file: PATH} or {vault: path#field}" if self.vault else "{env: NAME} or {file: PATH}"
        return f"write {ways}"

    def _from_vault(self, node: Node, key: str, text: str, at: Reading) -> Any:
        found = re.fullmatch(_VAULTED, text)
        if found is None:
            return at.fail(node, key, "not a path in a vault and a field", "write it like tollgate/weather#token")
        secret = Secret(f"vault {text}")
        at.vaulted.append((node, key, secret, found[1], found[2]))
        return secret

    def _from_environment(self, node: Node, key: str, name: str, at: Reading) -> Any:
        value = at.environ.get(name, "")
        if at.secrets and not value:
            return at.fail(node, key, f"the environment variable {name} is not set", f"set {name} for this process")
        return Secret(f"environment {name}", None, value or None)

    def _from_file(self, node: Node, key: str, path: Path, at: Reading) -> Any:
        source = f"file {path}"
        if self.may_lack or not at.secrets:
            return Secret(source, path)
        try:
            with path.open("rb") as stream:
                value = stream.read(SECRET_LIMIT_BYTES + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            return at.fail(node, key, f"the secret's file {path} cannot be read: {reason}")
        value = value.removesuffix("\n").removesuffix("\r")
        if not value or len(value) > SECRET_LIMIT_BYTES:
            return at.fail(node, key, f"the secret's file {path} is empty or too large")
        return Secret(source, path, value)

    def schema(self) -> dict[str, Json]:
        ways: list[Json] = [
            {
                "type": "object",
                "properties": {way: {"type": "string", "minLength": 1}},
                "required": [way],
                "additionalProperties": False,
            }
            for way in self._ways()
        ]
        return {"oneOf": ways}
