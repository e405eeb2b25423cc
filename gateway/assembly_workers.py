"""What an owner and its workers say to each other of configuration, policy and descriptors. Both sides import this.

1. Only what an owner says is unpickled: it started the worker, over a pair of sockets that nobody else has. What a
   worker says, which reads the bytes of strangers, is JSON or the log's own frames. 2. A worker reads no policy and no
configuration: it is given what the owner read, so that both build the same snapshot; the revision tells. 3. Lists of
tools are judged by the owner alone; a worker asks it to, and follows the registry.
"""

from __future__ import annotations

import copyreg
import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gateway import config
from gateway.assembly_policy import ReadPolicy
from gateway.core import posting
from gateway.core.canonical import Json
from gateway.core.posting import Post, PostGone, PostRefused
from gateway.core.reasons import StoreFailed
from gateway.pdp.sources import PolicySource
from gateway.trust.pins import Pins

Sources: TypeAlias = "dict[tuple[str, str], PolicySource]"


class NotTold(Exception):
    """A worker wants a policy that its owner did not read: `args[0]` says which."""


@dataclass(frozen=True, slots=True)
class Begin:
    """All that a worker begins with. `number` is from 1 to `count`; `known` the registry's content (stores/remote.py);
    `port` the data plane's real one."""

    number: int
    count: int
    node: str
    settings: config.Settings
    sources: Sources
    port: int
    known: bytes
    nonce_key: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """A snapshot to build beside the one in force. `kind`: `reload` reads everything anew, `policy` another policy
    alone, `prices` another price list, `keys` follows the key ring. `revision` is what must come of it."""

    kind: str
    settings: config.Settings
    sources: Sources
    revision: str


def packed(said: Begin | Change) -> bytes:
    """Secrets are in it: it goes to a process of our own over a socket that nobody else has (1)."""
    out = io.BytesIO()
    pickler = pickle.Pickler(out, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = copyreg.dispatch_table | {config.Secret: _secret}
    pickler.dump(said)
    return out.getvalue()


def unpacked(said: bytes) -> Any:
    """1: of an owner only."""
    return pickle.loads(said)


def _secret(found: config.Secret) -> tuple[type[config.Secret], tuple[Any, ...]]:
    return config.Secret, (found.source, found.file, found.reveal() if found.known else None)


class SourceBook:
    """Reads policies, and remembers what was read for whom; `in_force` is what the snapshot in force was built from."""

    def __init__(self, read: ReadPolicy) -> None:
        self._read = read
        self.read: Sources = {}
        self.in_force: Sources = {}

    def __call__(self, policy: config.Policy) -> PolicySource:
        found = self._read(policy)
        self.read = {**self.read, _name(policy): found}
        return found

    def keep(self) -> None:
        self.in_force = self.read


class ToldSources:
    """A worker's: what the owner read (2)."""

    def __init__(self, told: Sources) -> None:
        self.told = told

    def __call__(self, policy: config.Policy) -> PolicySource:
        found = self.told.get(_name(policy))
        if found is None:
            raise NotTold(f"the policy {policy.bundle} was not given to this worker")
        return found


def _name(policy: config.Policy) -> tuple[str, str]:
    return policy.name, str(policy.bundle)


class RemotePins:
    """The port PinOwner, in a worker."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def learn(self, upstream: str, listing: str, items: Sequence[Mapping[str, Json]], whole: bool) -> None:
        await self._ask(posting.LEARN, [upstream, listing, list(items), whole])

    async def listed(self, upstream: str) -> tuple[str, bool]:
        failed, listed = json.loads(await self._ask(posting.LISTED, upstream))
        return failed, listed

    def stale(self, upstream: str) -> None:
        self._post.tell(posting.STALE, 0, upstream.encode())

    async def _ask(self, kind: bytes, said: Any) -> bytes:
        try:
            return await self._post.ask(kind, json.dumps(said).encode())
        except (PostGone, PostRefused) as error:
            raise StoreFailed(str(error)) from None


class PinsClerk:
    """The owner's side of it, one worker's."""

    def __init__(self, pins: Pins, post: Post) -> None:
        self._pins = pins
        post.asked(posting.LEARN, self._learn)
        post.asked(posting.LISTED, self._listed)
        post.told(posting.STALE, lambda number, said: pins.stale(said.decode()))

    async def _learn(self, said: bytes) -> bytes:
        upstream, listing, items, whole = json.loads(said)
        await self._pins.shown(upstream, listing, items, whole)
        return b""

    async def _listed(self, said: bytes) -> bytes:
        return json.dumps(await self._pins.listed(json.loads(said))).encode()
