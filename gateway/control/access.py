"""Who may use the admin plane: the bearer token, one-time log-ins, and the sessions they open.

The rule: only hashes are kept and compared, in constant time; a token is never logged, shown or put into a cookie. The
token's file is made 0600 when it is not there, whole or not at all; one that others can read is refused, not repaired:
it may have been read already.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from gateway.core.ports import Clock

TOKEN_BYTES = 32
TOKEN_LEAST = 32  # characters; what is shorter was made up by somebody
TOKEN_MOST = 512
SESSION_SECONDS = 8 * 3600.0  # a working day
ONE_TIME_SECONDS = 3600.0
SESSIONS = 1000


class TokenRefused(Exception):
    """The admin token cannot be used; `args[0]` says which file, why, and what to do."""


def token_from(path: Path, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """The token in `path`, made when the file is not there. Raises TokenRefused."""
    if not path.exists():
        _make(path, _secret(entropy))
    return _read(path)


def _make(path: Path, token: str) -> None:
    """It is written beside and gets its name once it is on the disk: who sees the file sees all of it. By a link, for
    a rename would replace the token of another start that was faster."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(token + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(beside, path)
        finally:
            os.unlink(beside)
    except OSError as error:
        raise TokenRefused(f"the admin token {path} cannot be made: {error.strerror}") from None


def checked(token: str, source: str) -> str:
    """A token from elsewhere. Raises TokenRefused for one that could be guessed."""
    if not TOKEN_LEAST <= len(token) <= TOKEN_MOST or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenRefused(
            f"the admin token from {source} must have {TOKEN_LEAST} to {TOKEN_MOST} visible ASCII characters;"
            " make one with: head -c 32 /dev/urandom | base64"
        )
    if len(set(token)) < 8:
        raise TokenRefused(f"the admin token from {source} repeats itself; make a random one")
    return token


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode & 0o777
            data = stream.read(TOKEN_MOST + 2)
    except OSError as error:
        raise TokenRefused(f"the admin token {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise TokenRefused(
            f"the admin token {path} can be read by others (mode {mode:04o});"
            " delete it, the next start makes a new one, readable by its owner only"
        )
    return checked(data.decode("ascii", "replace").strip(), str(path))


def _secret(entropy: Callable[[int], bytes]) -> str:
    return base64.urlsafe_b64encode(entropy(TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Access:
    """Answers whether a bearer token or a session may pass; opens sessions for the token or a one-time token."""

    def __init__(
        self, token: str, clock: Clock, entropy: Callable[[int], bytes] = os.urandom, fleet_token: str | None = None
    ) -> None:
        """`fleet_token` opens what a fleet of OPAs needs and nothing else; None: that is closed to them."""
        self._token_hash = _hash(token)
        self._fleet_hash = _hash(fleet_token) if fleet_token is not None else None
        self._clock = clock
        self._entropy = entropy
        self._one_time: dict[bytes, float] = {}  # hash: until when, monotonic
        self._sessions: dict[bytes, float] = {}

    def bearer(self, token: str) -> bool:
        return len(token) <= TOKEN_MOST and hmac.compare_digest(_hash(token), self._token_hash)

    def fleet(self, token: str) -> bool:
        known = self._fleet_hash
        return known is not None and len(token) <= TOKEN_MOST and hmac.compare_digest(_hash(token), known)

    def session(self, ident: str) -> bool:
        until = self._sessions.get(_hash(ident))
        return until is not None and self._clock.monotonic() < until

    def one_time(self) -> str:
        """A new one-time token: it opens one session within the hour."""
        secret = _secret(self._entropy)
        self._one_time[_hash(secret)] = self._clock.monotonic() + ONE_TIME_SECONDS
        return secret

    def open(self, token: str) -> str | None:
        """The id of a new session for the admin token; None for anything else."""
        return self._begin(self._clock.monotonic()) if self.bearer(token) else None

    def redeem(self, secret: str) -> str | None:
        """The id of a new session for a one-time token, which is used up. Never for the admin token: this one comes
        in an address, and addresses are kept in histories."""
        now = self._clock.monotonic()
        until = self._one_time.pop(_hash(secret), None)
        return self._begin(now) if until is not None and now < until else None

    def _begin(self, now: float) -> str:
        self._sessions = {key: end for key, end in self._sessions.items() if now < end}
        while len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        ident = _secret(self._entropy)
        self._sessions[_hash(ident)] = now + SESSION_SECONDS
        return ident

    def close(self, ident: str) -> None:
        self._sessions.pop(_hash(ident), None)
