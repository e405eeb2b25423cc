"""A policy as its files: the modules, the tests beside them, the data, and one digest over what decides.

The rule: everything that can change a decision is in `revision`, and nothing else is. `*_test.rego` is read apart and
never served. Data is `data.yaml` or `data.json`, rooted at its folder as in an OPA bundle; two files never define the
same place. A folder that holds policies of several engines has ours in `rego/`. Hidden files are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.core.canonical import Json, digest, encode, parse
from gateway.core.reasons import Malformed
from gateway.pdp.syntax import PolicyRefused
from gateway.pdp.yamldata import parse_yaml

MODULE_BYTES = 1024 * 1024  # a module is written by people
DATA_BYTES = 64 * 1024 * 1024
FILES = 2000
NESTING = 12  # the engine's parser doubles its work with each bracket inside a bracket

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*|[\[\]{}()]')


@dataclass(frozen=True, slots=True)
class Module:
    """One .rego file; `path` is relative to the policy's folder, with slashes."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class PolicySource:
    """What is served (`modules`, `data`), what tests it (`tests`), and the digest of what is served."""

    modules: tuple[Module, ...]
    tests: tuple[Module, ...]
    data: Mapping[str, Json]
    revision: str


def source_of(modules: Mapping[str, str], data: Mapping[str, Json] | None = None) -> PolicySource:
    """A policy from texts by path. Raises PolicyRefused."""
    served, tests = _split(Module(path, text) for path, text in sorted(modules.items()))
    return PolicySource(served, tests, data or {}, _revision(served, data or {}))


def read_folder(folder: Path) -> PolicySource:
    """All of a folder's policy. Raises PolicyRefused, which names the file, and OSError."""
    if not folder.is_dir():
        raise PolicyRefused(f"{folder}: is not a folder with .rego files")
    if (folder / "rego").is_dir() and not any(folder.glob("*.rego")):
        folder = folder / "rego"
    modules: list[Module] = []
    data: dict[str, Json] = {}
    for file in _files(folder):
        path = file.relative_to(folder).as_posix()
        if file.suffix == ".rego":
            modules.append(Module(path, _text(file, path, MODULE_BYTES)))
        else:
            _merge(data, file.relative_to(folder).parts[:-1], _data(file, path), path)
    served, tests = _split(modules)
    if not served:
        raise PolicyRefused(f"{folder}: holds no .rego file that could be served")
    return PolicySource(served, tests, data, _revision(served, data))


def _files(folder: Path) -> list[Path]:
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if (file.suffix == ".rego" or file.name in ("data.json", "data.yaml"))
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    ]
    if len(found) > FILES:
        raise PolicyRefused(f"{folder}: holds {len(found)} policy files, at most {FILES} are read")
    return found


def _text(file: Path, path: str, limit: int) -> str:
    with file.open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise PolicyRefused(f"{path}: larger than {limit} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyRefused(f"{path}: not UTF-8 at byte {error.start}") from None


def _data(file: Path, path: str) -> dict[str, Json]:
    text = _text(file, path, DATA_BYTES)
    try:
        value = parse(text.encode()) if file.suffix == ".json" else parse_yaml(text)
    except Malformed as error:
        raise PolicyRefused(f"{path}: {error}") from None
    if value is None and file.suffix == ".yaml":
        return {}
    if not isinstance(value, dict):
        raise PolicyRefused(f"{path}: an object is expected")
    return value


def _merge(data: dict[str, Json], place: Iterable[str], found: dict[str, Json], path: str) -> None:
    at = data
    for name in place:
        below = at.setdefault(name, {})
        if not isinstance(below, dict):
            raise PolicyRefused(f"{path}: {name} is already a value of another data file")
        at = below
    _merge_into(at, found, path)


def _merge_into(at: dict[str, Json], found: dict[str, Json], path: str) -> None:
    for name, value in found.items():
        here = at.get(name)
        if name not in at:
            at[name] = value
        elif isinstance(here, dict) and isinstance(value, dict):
            _merge_into(here, value, path)
        else:
            raise PolicyRefused(f"{path}: {name} is already defined by another data file")


def _split(modules: Iterable[Module]) -> tuple[tuple[Module, ...], tuple[Module, ...]]:
    served: list[Module] = []
    tests: list[Module] = []
    for module in modules:
        _check_characters(module)
        _check_nesting(module)
        (tests if module.path.endswith("_test.rego") else served).append(module)
    return tuple(served), tuple(tests)


def _check_characters(module: Module) -> None:
    """The engine takes a NUL for the end of the file: what stands behind it would silently not count."""
    if module.text.startswith("\ufeff"):
        raise PolicyRefused(f"{module.path}:1: begins with a byte order mark; save it as UTF-8 without one")
    found = _CONTROL.search(module.text)
    if found is not None:
        line = module.text.count("\n", 0, found.start()) + 1
        raise PolicyRefused(
            f"{module.path}:{line}: has the control character U+{ord(found.group()):04X}; take it out, or escape it"
        )


def _check_nesting(module: Module) -> None:
    """Before the engine's parser sees it: deep brackets cost it exponential time, deeper ones the process's stack."""
    depth = 0
    for found in _TOKEN.finditer(module.text):
        mark = found.group()
        if mark in "[{(":
            depth += 1
            if depth > NESTING:
                line = module.text.count("\n", 0, found.start()) + 1
                raise PolicyRefused(f"{module.path}:{line}: brackets nest deeper than {NESTING} levels")
        elif mark in "]})":
            depth -= 1


def _revision(modules: Iterable[Module], data: Mapping[str, Json]) -> str:
    files: dict[str, Json] = {module.path: digest(module.text.encode()) for module in modules}
    try:
        return digest(encode({"modules": files, "data": digest(encode(dict(data)))}))
    except Malformed as error:
        raise PolicyRefused(f"the policy's data: {error}") from None
