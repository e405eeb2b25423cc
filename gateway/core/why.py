"""The port through which people ask why a policy decided as it did (assembly_why.py has it made)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol as Port

from gateway.core.canonical import Json
from gateway.core.exchange import Decision


class Whys(Port):
    """Explains decisions, beside the traffic and within bounds. What it cannot tell, it says: `note`."""

    async def recorded(self, records: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """Why an exchange was decided as its records say. `records` are all of it. Never raises for what they hold."""
        ...

    async def asked(self, document: Mapping[str, Json], decision: Decision) -> dict[str, Json]:
        """The same of a question that was just decided."""
        ...
