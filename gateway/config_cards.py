"""The section of the configuration about agent cards. The rule: a card that is named here is required unless the file
says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import config_values as values
from gateway.config_schema import Choice, Flag, ListOf, Of, Text, option

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_NAME = Text("a name of letters, digits, dots, dashes and underscores", values.NAME)


@dataclass(frozen=True, slots=True)
class Card:
    """How the card of an A2A agent is fetched, verified and shown."""

    signers: tuple[str, ...] = option(ListOf(_NAME, 1), why="names under trust.signers: any of them", shown="[acme]")
    required: bool = option(Flag(), True, "nothing is forwarded while no card is verified", shown="true")
    mode: str = option(
        Choice(("resign", "preserve")),
        "resign",
        "preserve: shown as it came, for a gateway on the card's own host",
        shown="resign",
    )
    refresh: float = option(_DURATION, 300.0, "how often it is fetched", shown="5m")
    stale: float = option(_DURATION, 86400.0, "how long it counts while it cannot be fetched", shown="24h")


CARD = Of(Card)
