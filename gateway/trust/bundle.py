"""The rules that a policy bundle must keep before it may decide anything; a refusal says the number.

Of its bytes (bundle_tar.py): 1. Size, packed and unpacked. 2. Members: files and folders, intact. 3. Names:
none leads elsewhere, none is there twice.
Of who signed it (bundle_signature.py): 4. One well-formed signature is there. 5. It is right, by a key in force of a
signer who may. 6. Its scope is the configured one.
Of what was signed (here): 7. The files that are signed are the files that are there, no more, no fewer. 8. Each is
what was signed (bundle_hash.py). Nothing is read before this point but names and the signature.
Of what it says (bundle_content.py): 9. Only files that are understood. 10. Its manifest. 11. Roots. 12. Its number is
there, and above every number that was accepted under this name. 13. Its validity window holds now; the clock that is
asked does not go back. 14. Its data.
Of what it does (PolicyLab): 15. The policy compiles as it would be served. 16. Its own tests pass.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.bundles import Bundle, BundleRefused, LabFinding, PolicyLab, Terms
from gateway.core.canonical import digest
from gateway.core.reasons import Malformed
from gateway.core.records import timestamp
from gateway.trust.bundle_content import Content, Manifest, check_places, check_roots, read_content, read_manifest
from gateway.trust.bundle_hash import file_hash
from gateway.trust.bundle_signature import SIGNATURES, BundleSigner, SignedFiles, verified
from gateway.trust.bundle_tar import unpack

_SHOWN_TESTS = 10


@dataclass(frozen=True, slots=True)
class BundleRules:
    """What the configuration says of bundles. `scope` "" means that a signature has none."""

    signers: Sequence[BundleSigner]
    scope: str
    roots: Sequence[str]


class Verifier:
    """The port BundleVerifier. `rules` are those in force when it is asked, `now` gives epoch seconds."""

    def __init__(self, rules: Callable[[], BundleRules], lab: PolicyLab, now: Callable[[], float]) -> None:
        self._rules = rules
        self._lab = lab
        self._now = now

    def verify(self, tarball: bytes, terms: Terms) -> Bundle:
        rules = self._rules()
        files = unpack(tarball)  # 1, 2, 3
        now = self._now()
        signed = verified(files.get(SIGNATURES), rules.signers, rules.scope, now)  # 4, 5, 6
        check_signed(files, signed.files)  # 7, 8
        manifest, content = read(files, rules.roots)  # 9, 10, 11, 14
        number = check_number(manifest, terms.after)  # 12
        if terms.now is not None:
            check_window(manifest, terms.now)  # 13
        examine(content, self._lab, run=terms.tests)  # 15, 16
        return bundle_of(tarball, manifest, content, number, signed)


def read(files: Mapping[str, bytes], roots: Sequence[str]) -> tuple[Manifest, Content]:
    """9 to 11, and 14."""
    manifest = read_manifest(files)
    check_roots(manifest, roots)
    content = read_content(files)
    check_places(manifest, content)
    return manifest, content


def check_signed(files: Mapping[str, bytes], signed: Mapping[str, tuple[str, str]]) -> None:
    """7 and 8."""
    there = files.keys() - {SIGNATURES}
    for name in sorted(there - signed.keys()):
        raise BundleRefused(7, f"{name} is not signed")
    for name in sorted(signed.keys() - there):
        raise BundleRefused(7, f"{name[:200]} was signed and is not there")
    for name in sorted(there):
        algorithm, wanted = signed[name]
        try:
            found = file_hash(name, files[name], algorithm)
        except Malformed as error:
            raise BundleRefused(8, f"{name} has no digest: {error}") from None
        if not hmac.compare_digest(found, wanted):
            raise BundleRefused(8, f"{name} is not what was signed")


def check_number(manifest: Manifest, after: int) -> int:
    """12."""
    if manifest.number is None:
        raise BundleRefused(
            12, "it has no number: write metadata.tollgate.number in .manifest, or a revision that is a whole number"
        )
    if manifest.number <= after:
        raise BundleRefused(12, f"its number {manifest.number} is not above {after}, which was accepted before")
    return manifest.number


def check_window(manifest: Manifest, now: float) -> None:
    """13."""
    if manifest.not_before is not None and now < manifest.not_before:
        raise BundleRefused(13, f"it is not valid before {timestamp(manifest.not_before)}")
    if manifest.expires is not None and now >= manifest.expires:
        raise BundleRefused(13, f"it expired at {timestamp(manifest.expires)}")


def examine(content: Content, lab: PolicyLab, *, run: bool) -> LabFinding:
    """15 and 16."""
    if not content.modules:
        raise BundleRefused(15, "it holds no .rego file that could be served")
    found = lab.examine(content.modules, content.tests, content.data, run=run)
    if found.problem:
        raise BundleRefused(15, found.problem)
    if found.failed:
        more = len(found.failed) - _SHOWN_TESTS
        shown = "; ".join(found.failed[:_SHOWN_TESTS]) + (f"; and {more} more" if more > 0 else "")
        raise BundleRefused(16, f"its own tests fail: {shown}")
    return found


def bundle_of(tarball: bytes, manifest: Manifest, content: Content, number: int, signed: SignedFiles) -> Bundle:
    return Bundle(
        revision=manifest.revision,
        digest=digest(tarball),
        roots=manifest.roots,
        modules=content.modules,
        tests=content.tests,
        data=content.data,
        number=number,
        not_before=manifest.not_before,
        expires=manifest.expires,
        signer=signed.signer,
        kid=signed.kid,
        scope=signed.scope,
    )


def read_unverified(tarball: bytes) -> Bundle:
    """A bundle that nobody vouches for, for questions only (what would it do?): rules 1 to 3, 9 to 11 and 14, any root.
    It must never decide anything. Raises BundleRefused."""
    files = unpack(tarball)
    manifest, content = read(files, [""])
    number = manifest.number if manifest.number is not None else -1
    return bundle_of(tarball, manifest, content, number, SignedFiles("", "", "", {}))
