"""A replay, put together: a candidate from its folder or bundle, the decisions of a log directory, what would change.

The rule it keeps: it reads files and changes nothing. The log is verified first, whole, by keys that the caller names;
what is replayed is what the verified checkpoint covers, and no more. A candidate is only tried here, so its signature
is not asked for: nothing comes into force.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.core.canonical import Json
from gateway.core.whatif import Recorded
from gateway.log.decisions import DecisionReader, Skimmed
from gateway.log.verify import Report, verify
from gateway.pdp.flips import Flips
from gateway.pdp.replay import Replay
from gateway.pdp.sources import PolicySource, read_folder, source_of
from gateway.trust.bundle import read_unverified
from gateway.trust.bundle_build import Plan, build
from gateway.trust.bundle_tar import PACKED_BYTES

PROGRESS_EVERY = 2000  # decisions


@dataclass(frozen=True, slots=True)
class Span:
    """Which decisions: `since` inclusive and `until` exclusive, as records write times; `share` of them, chosen by the
    exchange's id, so that two replays with the same share see the same ones."""

    since: str = ""
    until: str = ""
    share: float = 1.0

    def has(self, recorded: Recorded) -> bool:
        return self.share >= 1.0 or zlib.crc32(recorded.exchange.encode()) < self.share * 2**32


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `entries`, which are those of the whole log; nobody knows before how many are decisions."""

    entries: int
    done: int
    decisions: int

    def record(self) -> dict[str, Json]:
        return {"entries": self.entries, "done": self.done, "decisions": self.decisions}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. Without a `found` the log could not be verified and nothing was replayed."""

    verified: Report
    skimmed: Skimmed
    revision: str = ""
    found: Flips | None = None

    def record(self) -> dict[str, Json]:
        log: dict[str, Json] = {
            "verified": self.verified.ok,
            "origin": self.verified.origin,
            "size": self.verified.size,
        }
        document: dict[str, Json] = {"candidate": self.revision, "log": log}
        if self.found is not None:
            document |= self.found.record()
            document["list_items"] = self.skimmed.items
        return document


def candidate(path: Path) -> PolicySource:
    """A policy folder, or a bundle that nobody need have signed. Raises PolicyRefused, BundleRefused, OSError."""
    if path.is_dir():
        return read_folder(path)
    with path.open("rb") as stream:
        tarball = stream.read(PACKED_BYTES + 1)  # one more than is read: then it is refused for its size
    found = read_unverified(tarball)
    return source_of({**found.modules, **found.tests}, found.data)


def packed(path: Path) -> bytes:
    """The candidate as a tarball, unsigned where it is a folder. Raises PolicyRefused, BundleRefused, OSError."""
    if not path.is_dir():
        return path.read_bytes()
    found = read_folder(path)
    modules = {module.path: module.text for module in (*found.modules, *found.tests)}
    return build(Plan(modules, found.data, found.revision, number=1))


def replay(
    policy: PolicySource,
    log: Path,
    keys: Sequence[str],
    span: Span,
    *,
    examples: int = 5,
    progress: Callable[[Progress], None] = lambda at: None,
) -> Replayed:
    """Blocks until it is through. `log` is a log directory. Raises PolicyRefused, Wrong (for keys that are none)."""
    replayer = Replay(policy)
    report = verify(log, keys)
    reader = DecisionReader(log, span.since, span.until)
    if not report.ok:
        return Replayed(report, reader.skimmed, policy.revision)
    flips = Flips(examples)
    for recorded in reader.read(report.size):
        if span.has(recorded):
            flips.add(recorded, replayer.decide(recorded))
            if flips.decisions % PROGRESS_EVERY == 0:
                progress(Progress(report.size, reader.skimmed.entries, flips.decisions))
    return Replayed(report, reader.skimmed, policy.revision, flips)
