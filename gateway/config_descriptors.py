"""The sections of the configuration about what MCP upstreams describe: which tools are reached, and who vouches."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import config_values as values
from gateway.config_schema import Choice, Text, option

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)


@dataclass(frozen=True, slots=True)
class Tools:
    """What of tools, prompts, resources and resource templates is shown and reached."""

    pin: str = option(
        Choice(("required", "first_use", "none")),
        "none",
        "required: approved ones; first_use: those of the first list; none: all",
        shown="none",
    )
    refresh: float = option(_DURATION, 300.0, "how often the gateway lists them for itself", shown="5m")
