"""What a bundle's files say: its manifest, its policy, its data. With the numbers of trust/bundle.py:

9. Files: `.manifest`, `.rego`, `data.json`, and nothing that this gateway would not read (a patch, a wasm module, YAML,
whose meaning depends on its reader). 10. Manifest: strict JSON with known members; `revision` is there; Rego is v1;
`metadata.tollgate` has `number`, `not_before`, `expires` and nothing else. 11. Roots: they do not overlap, each lies
within one that `policy.roots` allows, and what the bundle has lies within them. 14. Data: strict JSON, objects, and no
two files define the same place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.core.bundles import BundleRefused
from gateway.core.canonical import MAX_INTEGER, Json, parse_object
from gateway.core.reasons import Malformed
from gateway.trust.bundle_signature import SIGNATURES

MANIFEST = ".manifest"
DATA = "data.json"
OURS = "tollgate"  # our part of the manifest's metadata
REVISION = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
_MANIFEST = frozenset({"revision", "roots", "rego_version", "file_rego_versions", "wasm", "metadata"})
_OURS = frozenset({"number", "not_before", "expires"})
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_PACKAGE = re.compile(r"(?:\s|#[^\n]*(?:\n|\Z))*package\s+([A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[\"[^\"\\]*\"\])*)", re.ASCII)
_SEGMENT = re.compile(r"\.(\w+)|\[\"([^\"\\]*)\"\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manifest:
    revision: str
    roots: tuple[str, ...]
    number: int | None
    not_before: float | None
    expires: float | None


@dataclass(frozen=True, slots=True)
class Content:
    """Texts by path. `data` is rooted as in OPA: a data.json in a folder lies below that folder's name."""

    modules: Mapping[str, str]
    tests: Mapping[str, str]
    data: dict[str, Json]


def read_manifest(files: Mapping[str, bytes]) -> Manifest:
    """9 and 10."""
    for name in files:
        last = name.rpartition("/")[2]
        if name not in (MANIFEST, SIGNATURES) and last != DATA and (not last.endswith(".rego") or last == ".rego"):
            raise BundleRefused(9, f"{name} is not read here: a bundle has .rego files, data.json and {MANIFEST}")
    if MANIFEST not in files:
        raise BundleRefused(10, f"{MANIFEST} is not there: it says revision and roots")
    try:
        found = parse_object(files[MANIFEST])
        if odd := sorted(found.keys() - _MANIFEST):
            raise Malformed(f"{', '.join(odd)[:200]} is not understood")
        if found.get("wasm"):
            raise Malformed("wasm modules are not evaluated here")
        _rego_version(found)
        revision, roots = found.get("revision"), found.get("roots", [""])
        if not isinstance(revision, str) or REVISION.fullmatch(revision) is None:
            raise Malformed("revision is not a plain text of 1 to 256 characters")
        if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots) or not roots:
            raise Malformed("roots is not a list of texts")
        own = _own(found)
        number = own.get("number", int(revision) if _NUMBER.fullmatch(revision) else None)
        if number is not None and (type(number) is not int or not 0 <= number <= MAX_INTEGER):
            raise Malformed(f"metadata.{OURS}.number is not a whole number from 0 on")
        begins, ends = _moment(own, "not_before"), _moment(own, "expires")
        if begins is not None and ends is not None and ends <= begins:
            raise Malformed("it expires before it begins")
    except Malformed as error:
        raise BundleRefused(10, f"{MANIFEST}: {error}") from None
    return Manifest(revision, tuple(str(root).strip("/") for root in roots), number, begins, ends)


def _rego_version(found: Mapping[str, Json]) -> None:
    by_file = found.get("file_rego_versions", {})
    if not isinstance(by_file, dict):
        raise Malformed("file_rego_versions is not an object")
    for version in (found.get("rego_version", 1), *by_file.values()):
        if type(version) is not int or version != 1:
            raise Malformed("rego_version is not 1: only Rego v1 is read")


def _own(found: Mapping[str, Json]) -> Mapping[str, Json]:
    metadata = found.get("metadata", {})
    own = (metadata if isinstance(metadata, dict) else {}).get(OURS, {})
    if not isinstance(metadata, dict) or not isinstance(own, dict):
        raise Malformed(f"metadata, or its {OURS}, is not an object")
    if odd := sorted(own.keys() - _OURS):
        raise Malformed(f"metadata.{OURS} has {', '.join(odd)[:200]}, which is not understood")
    return own


def _moment(own: Mapping[str, Json], name: str) -> float | None:
    value = own.get(name)
    if value is None and name not in own:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Malformed(f"metadata.{OURS}.{name} is not RFC 3339 as in 2027-01-01T00:00:00Z")
    return moment.timestamp()


def check_roots(manifest: Manifest, allowed: Sequence[str]) -> None:
    """11, as far as the manifest goes. `allowed` are paths below `data`, "" for all of it."""
    for root in manifest.roots:
        if not any(_within(root, other.strip("/")) for other in allowed):
            raise BundleRefused(11, f"the root {root!r} is not within policy.roots ({', '.join(map(repr, allowed))})")
    for number, root in enumerate(manifest.roots):
        for other in manifest.roots[:number]:
            if _within(root, other) or _within(other, root):
                raise BundleRefused(11, f"the roots {other!r} and {root!r} overlap")


def check_places(manifest: Manifest, content: Content) -> None:
    """11, what the bundle has."""
    for path, text in (*content.modules.items(), *content.tests.items()):
        package = _PACKAGE.match(text)
        if package is None:
            raise BundleRefused(11, f"{path}: no package can be read in it")
        place = "/".join(_segments(package[1]))
        if not any(_within(place, root) for root in manifest.roots):
            raise BundleRefused(11, f"{path}: package {package[1]} is outside of the bundle's roots")
    for name, value in content.data.items():
        _check_data(name, value, manifest.roots)


def _segments(package: str) -> list[str]:
    return [plain or quoted for plain, quoted in _SEGMENT.findall("." + package)]


def _check_data(place: str, value: Json, roots: Sequence[str]) -> None:
    if any(_within(place, root) for root in roots):
        return
    if not isinstance(value, dict) or not any(_within(root, place) for root in roots):
        raise BundleRefused(11, f"the data at {place[:200]} is outside of the bundle's roots")
    for name, below in value.items():
        _check_data(f"{place}/{name}", below, roots)


def _within(place: str, root: str) -> bool:
    return root == "" or place == root or place.startswith(root + "/")


def read_content(files: Mapping[str, bytes]) -> Content:
    """14, and the texts of the policy."""
    modules: dict[str, str] = {}
    tests: dict[str, str] = {}
    data: dict[str, Json] = {}
    for name, raw in sorted(files.items()):
        folder, _, last = name.rpartition("/")
        if last == DATA:
            try:
                _merge(data, parse_object(raw), [part for part in folder.split("/") if part])
            except Malformed as error:
                raise BundleRefused(14, f"{name}: {error}") from None
        elif last.endswith(".rego"):
            try:
                (tests if last.endswith("_test.rego") else modules)[name] = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise BundleRefused(14, f"{name}: not UTF-8 at byte {error.start}") from None
    return Content(modules, tests, data)


def _merge(at: dict[str, Json], found: dict[str, Json], place: Sequence[str]) -> None:
    for name in place:
        below = at.setdefault(name, {})
        if not isinstance(below, dict):
            raise Malformed(f"{name} is a value of another file already")
        at = below
    for name, value in found.items():
        here = at.get(name)
        if name not in at:
            at[name] = value
        elif isinstance(here, dict) and isinstance(value, dict):
            _merge(here, value, ())
        else:
            raise Malformed(f"{name} is defined by another file already")
