"""The sections of the configuration about what MCP upstreams describe: which tools are reached, and who vouches."""

# ruff: noqa: RUF009 (`option` is a dataclass field specifier, and every default it is given is frozen)
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway import config_values as values
from gateway.config_schema import Choice, ListOf, Of, Text, option

_DURATION = Text("a duration like 30s, 250ms or 5m", values.DURATION, values.parse_positive_duration)
_NAME = Text("a name of letters, digits, dots, dashes and underscores", values.NAME)
_URL = Text("an http or https URL", parse=values.parse_url)
_PATH = Text("a path on this machine", r"[^\x00]+", Path)


@dataclass(frozen=True, slots=True)
class Manifest:
    file: Path | None = option(_PATH, None, "read again at each refresh", shown="config/weather.manifest.json")
    url: str | None = option(_URL, None, "or fetched at each refresh", example="https://acme.example/weather.json")


def manifest_wrong(found: Manifest) -> str:
    return "" if (found.file is None) != (found.url is None) else "exactly one of file, url is needed here"


@dataclass(frozen=True, slots=True)
class Tools:
    """What of tools, prompts, resources and resource templates is shown and reached."""

    pin: str = option(
        Choice(("required", "first_use", "none")),
        "none",
        "required: approved or signed ones; first_use: those of the first list; none: all",
        shown="none",
    )
    refresh: float = option(_DURATION, 300.0, "how often the gateway lists them for itself", shown="5m")
    signers: tuple[str, ...] = option(
        ListOf(_NAME), (), "names under trust.signers whose manifests count", example="[acme]"
    )
    manifest: Manifest | None = option(Of(Manifest, manifest_wrong), None, "what they signed")
