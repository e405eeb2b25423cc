"""Bundles made: a tarball in OPA's format from texts and data, the same bytes for the same content, signed or not.

The rule: what is built here passes every rule of trust/bundle.py that does not ask who signed it, and loads in OPA.
Members are in the order of their names, nothing says when or by whom it was packed.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.bundles import BundleRefused
from gateway.core.canonical import Json, encode
from gateway.core.reasons import Malformed
from gateway.trust.bundle import check_number, read
from gateway.trust.bundle_content import DATA, MANIFEST, OURS
from gateway.trust.bundle_signature import SIGNATURES, sign_files
from gateway.trust.bundle_tar import unpack
from gateway.trust.jose import Signer

LEVEL = 9


@dataclass(frozen=True, slots=True)
class Plan:
    """What is packed. `modules` hold the tests too; `not_before` and `expires` are RFC 3339, "" for none."""

    modules: Mapping[str, str]
    data: Mapping[str, Json]
    revision: str
    number: int | None
    roots: Sequence[str] = ("",)
    not_before: str = ""
    expires: str = ""


def build(plan: Plan) -> bytes:
    """An unsigned tarball. Raises BundleRefused for what no gateway would take."""
    own: dict[str, Json] = {}
    if plan.number is not None:
        own["number"] = plan.number
    own |= {name: text for name, text in (("not_before", plan.not_before), ("expires", plan.expires)) if text}
    manifest: dict[str, Json] = {"revision": plan.revision, "roots": list(plan.roots), "rego_version": 1}
    if own:
        manifest["metadata"] = {OURS: own}
    try:
        files = {path: text.encode() for path, text in plan.modules.items()}
        files |= {MANIFEST: encode(manifest), DATA: encode(dict(plan.data))}
    except Malformed as error:
        raise BundleRefused(14, str(error)) from None
    tarball = pack(files)
    made, _ = read(unpack(tarball), [""])
    check_number(made, -1)
    return tarball


def sign(tarball: bytes, by: Signer, *, scope: str = "", named: bool = True) -> bytes:
    """The same files with a new signature in place of one that is there. Raises BundleRefused."""
    files = unpack(tarball)
    try:
        files[SIGNATURES] = sign_files(files, by, scope=scope, named=named)
    except Malformed as error:
        raise BundleRefused(8, str(error)) from None
    return pack(files)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Raises BundleRefused for a name that does not fit (3)."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            try:
                tar.addfile(member, io.BytesIO(content))
            except ValueError as error:
                raise BundleRefused(3, f"{name[:200]}: {error}") from None
    return gzip.compress(archive.getvalue(), LEVEL, mtime=0)
