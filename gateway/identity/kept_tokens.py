"""Tokens that are kept for each caller: a file that says by `subject.id` what the upstream is shown for it.

1. The file is a strict mapping of texts, readable by its owner alone; anything else refuses the whole file. 2. A file
that went bad leaves the former tokens in place and says why, without quoting one. 3. A caller that is not in it has no
token, and is told so: there is no default, and nobody gets another's. An id is compared exactly.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.core.exchange import Exchange, Header
from gateway.core.reasons import Reason, Refusal

FILE_LIMIT_BYTES = 16 * 1024 * 1024
TOKEN_LIMIT = 16 * 1024

_log = logging.getLogger("tollgate.identity")


class KeptTokenError(Exception):
    """The file cannot be used; `args[0]` says why and quotes no token."""


class KeptTokens:
    """The tokens of one file, for one upstream. Raises KeptTokenError, OSError when it cannot be used at the start."""

    __slots__ = ("_header", "_load", "_scheme", "_stamp", "_tokens", "path", "problem")

    def __init__(self, path: Path, header: str, scheme: str, load: Callable[[bytes], object]) -> None:
        self.path = path
        self._header = header.lower().encode()
        self._scheme = f"{scheme} ".encode() if scheme else b""
        self._load = load
        self._stamp: tuple[int, ...] = ()
        self._tokens: Mapping[str, tuple[Header, ...]] = {}
        self.problem = ""
        self._reload()

    def headers(self, exchange: Exchange) -> tuple[Header, ...] | Refusal:
        principal = exchange.principal
        found = self._tokens.get(principal.id) if principal is not None else None
        if found is None:  # 3
            return no_kept_token(exchange.upstream.name)
        return found

    def own(self) -> None:
        """Each is some caller's."""

    def rejected(self, exchange: Exchange) -> None:
        """There is no other; the file is looked at all the time."""

    def close(self) -> None:
        """Nothing is open between two looks."""

    def poll(self) -> None:
        """Reads the file again if it changed; on trouble the former tokens stay (rule 2)."""
        try:
            self._reload()
            self.problem = ""
        except Exception as error:  # noqa: BLE001 (background: a bad file must not end the watch)
            why = str(error) if isinstance(error, KeptTokenError) else type(error).__name__
            if why != self.problem:
                _log.warning("tokens of %s stay as they were: %s", self.path, why)
            self.problem = why

    def _reload(self) -> None:
        found = self.path.stat()
        stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode)
        if stamp == self._stamp:
            return
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise KeptTokenError(f"{self.path} may be read by others than its owner: chmod 600 it")  # 1
        if found.st_size > FILE_LIMIT_BYTES:
            raise KeptTokenError(f"{self.path} is larger than {FILE_LIMIT_BYTES} bytes")
        try:
            document = self._load(self.path.read_bytes())
        except ValueError:
            raise KeptTokenError(f"{self.path} is not a strict YAML file") from None
        self._tokens = {name: self._shown(value) for name, value in _read(document, self.path).items()}
        self._stamp = stamp

    def _shown(self, token: str) -> tuple[Header, ...]:
        return ((self._header, self._scheme + token.encode()),)


def fits_a_header(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= TOKEN_LIMIT or value != value.strip():
        return False
    return all(" " <= character <= "~" for character in value)


def no_kept_token(upstream: str) -> Refusal:
    """What a caller is told of whom nothing is kept (3)."""
    text = f"No token is kept for you for upstream {upstream}: ask the operator"
    return Refusal(Reason.DENIED, text, rule="no_kept_token")


def _read(document: object, path: Path) -> dict[str, str]:
    if document is None:
        return {}  # nobody has a token yet
    if not isinstance(document, dict):
        raise KeptTokenError(f"{path} is not a mapping from subject.id to token")
    for name, value in document.items():
        if not isinstance(name, str) or not name or not name.isprintable():
            raise KeptTokenError(f"{path}: a subject.id is not printable text")
        if not fits_a_header(value):
            raise KeptTokenError(f"{path}: what is kept for {name} is not a text that a header may carry")
    return document
