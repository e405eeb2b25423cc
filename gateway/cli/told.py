"""Explanations as text: the stages of an exchange, and why a policy decided as it did.

It only decides where lines end: what they say comes from the document, which `--json` prints as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.cli.output import table


def exchange(document: Mapping[str, Any]) -> str:
    """What `explain` prints."""
    lines = [str(document["summary"]), "", "Stages"]
    rows = [_stage(item) for item in document.get("stages", ())]
    lines += [f"  {line}" for line in table(rows).split("\n")]
    if document.get("why"):
        lines += ["", *why(document["why"])]
    lines += ["", "Records"]
    lines += [f"  {step['seq']}  {step['time']}  {step['kind']}: {step['text']}" for step in document["steps"]]
    for name in ("limits", "budgets", "usage", "request"):
        if document.get(name):
            lines.append(f"  {name}: {_flat(document[name])}")
    return "\n".join(lines)


def why(found: Mapping[str, Any]) -> Iterator[str]:
    """What a policy's explanation says."""
    revision = f", revision {found['revision']}" if "revision" in found else ""
    yield f"Policy ({found.get('engine', 'embedded')}{revision})"
    if "note" in found:
        yield f"  {found['note']}"
    if "error" in found:
        yield f"  It failed: {found['error']}"
    if found.get("undefined"):
        yield "  No rule matched: the decision is undefined for this request, which is a deny"
    elif found.get("matched") is False:
        yield "  No rule matched: what follows is the default"
    yield from _rules(found)
    if found.get("reads"):
        yield "  It read"
        yield from (f"    {item['place']}: {_value(item)}" for item in found["reads"])
    if found.get("missing"):
        yield "  It looked for and did not find"
        yield from (f"    {place}" for place in found["missing"])
    for item in found.get("nearest", ()):
        yield f"  {item['text']}"
    if "nearest_note" in found:
        yield f"  {found['nearest_note']}"


def _rules(found: Mapping[str, Any]) -> Iterator[str]:
    shown = [item for item in (found.get("rule"), *found.get("made_by", ())) if item]
    once = {(item["file"], item["line"]): item for item in reversed(shown)}
    for item in shown:
        if once.pop((item["file"], item["line"]), None) is None:
            continue
        label = next((f"Rule {same['label']}: " for same in shown if same.get("label") and same is item), "")
        yield f"  {label}{item['name']}, {item['file']}:{item['line']}"
        yield from (f"    {line}" for line in str(item["text"]).expandtabs(4).split("\n"))


def _stage(item: Mapping[str, Any]) -> list[str]:
    took = f"{item['ms']:.3f} ms" if isinstance(item.get("ms"), float) else f"{item['ms']} ms" if "ms" in item else ""
    took = "kept" if item.get("kept") else took
    first = f", first byte after {item['first_byte_ms']} ms" if "first_byte_ms" in item else ""
    moment = str(item.get("time", "")).partition("T")[2]
    return [item["stage"], item["verdict"], moment, took, f"{item.get('text', '')}{first}"]


def _value(item: Mapping[str, Any]) -> str:
    return orjson.dumps(item["value"]).decode() if "value" in item else str(item.get("type", ""))


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_flat(item) for item in value)
    return str(value)
