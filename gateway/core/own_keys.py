"""What an administrator sees of the gateway's own signing keys, and may do to them: public halves and dates only.

The rule: a private key has no way through here, and what is replaced is what was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol as Port

from gateway.core.canonical import Json


class Unrotatable(Exception):
    """`args[0]` says why; `stale` where another key signs by now than somebody looked at."""

    def __init__(self, text: str, *, stale: bool = False) -> None:
        super().__init__(text)
        self.stale = stale


class OwnKeys(Port):
    """The ring as the running gateway has it (trust/keys.py, put together in assembly_keys.py)."""

    @property
    def overlap(self) -> float:
        """Seconds that a key stays published after it signed last."""
        ...

    def shown(self) -> Sequence[dict[str, Json]]:
        """Every key, by purpose and age: purpose, kid, state, created, its other dates, its public JWK."""
        ...

    async def rotate(self, purpose: str, kid: str, by: str) -> None:
        """The next key of the purpose signs from now on in place of `kid`, and its record is durable unless the log
        cannot be written just then. Raises Unrotatable, LogUnavailable."""
        ...
