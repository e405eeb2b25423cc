"""The stores from a worker: handles and descriptors belong to the owner's files, and to nobody else's.

1. A handle's owner is asked for each time: another worker may have bound or forgotten it since. 2. Of descriptors and
blocks every worker has a copy, made before it serves and kept up by the owner, so that a call asks nobody. A change
that a worker made is in its copy when `save` returns. 3. Without its owner nothing is known: StoreFailed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields

import orjson

from gateway.core import posting
from gateway.core.descriptors import Described, Registry, Standing
from gateway.core.exchange import Handle
from gateway.core.ports import Handles
from gateway.core.posting import Post, PostGone, PostRefused
from gateway.core.reasons import Malformed, StoreFailed

Key = tuple[str, str, str]


class RemoteHandles:
    """Implements `Handles` (1)."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def bind(self, handle: Handle, *, route: str, subject: str, upstream: str) -> None:
        said = orjson.dumps([handle.kind, handle.id, route, upstream, subject])
        foreign = await _asked(self._post, posting.BIND, said)
        if foreign:
            raise Malformed(foreign.decode())

    async def owner(self, handle: Handle, *, route: str, upstream: str) -> str | None:
        found = await _asked(self._post, posting.OWNER, orjson.dumps([handle.kind, handle.id, route, upstream]))
        return found.decode() or None

    async def forget(self, handle: Handle, *, route: str, upstream: str) -> None:
        await _asked(self._post, posting.FORGET, orjson.dumps([handle.kind, handle.id, route, upstream]))

    async def check(self) -> None:
        """The owner's readiness says whether its store is well."""


class HandlesClerk:
    """The owner's side, one worker's."""

    def __init__(self, handles: Handles, post: Post) -> None:
        self._handles = handles
        post.asked(posting.BIND, self._bind)
        post.asked(posting.OWNER, self._owner)
        post.asked(posting.FORGET, self._forget)

    async def _bind(self, said: bytes) -> bytes:
        kind, ident, route, upstream, subject = orjson.loads(said)
        try:
            await self._handles.bind(Handle(kind, ident), route=route, subject=subject, upstream=upstream)
        except Malformed as error:
            return str(error).encode()
        return b""

    async def _owner(self, said: bytes) -> bytes:
        kind, ident, route, upstream = orjson.loads(said)
        found = await self._handles.owner(Handle(kind, ident), route=route, upstream=upstream)
        return (found or "").encode()

    async def _forget(self, said: bytes) -> bytes:
        kind, ident, route, upstream = orjson.loads(said)
        await self._handles.forget(Handle(kind, ident), route=route, upstream=upstream)
        return b""


class MirroredRegistry:
    """Implements `Registry` and `Blocks` over a copy (2), in which blocks lie over the rest as the owner shows them."""

    def __init__(self, post: Post, known: Iterable[Described]) -> None:
        self._post = post
        self._items: dict[Key, Described] = {_key(item): item for item in known}
        self._told: list[Callable[[Sequence[Described]], None]] = []
        post.told(posting.KNOWN, self._known)

    def find(self, kind: str, upstream: str, name: str) -> Described | None:
        return self._items.get((kind, upstream, name))

    def items(self, kind: str | None = None, upstream: str | None = None) -> Sequence[Described]:
        keys = sorted(key for key in self._items if kind in (None, key[0]) and upstream in (None, key[1]))
        return [self._items[key] for key in keys]

    async def save(self, items: Sequence[Described]) -> None:
        """The owner tells all workers, this one too, before it answers."""
        if items:
            await _asked(self._post, posting.SAVE, packed(items))

    def subscribe(self, told: Callable[[Sequence[Described]], None]) -> None:
        self._told.append(told)

    def blocked(self, kind: str) -> frozenset[tuple[str, str]]:
        return frozenset(
            key[1:] for key, item in self._items.items() if key[0] == kind and item.standing is Standing.BLOCKED
        )

    async def block(self, kind: str, upstream: str, name: str, why: str, by: str) -> None:
        raise StoreFailed("only the owner blocks")

    async def unblock(self, kind: str, upstream: str, name: str) -> None:
        raise StoreFailed("only the owner lifts a block")

    async def check(self) -> None:
        """The owner's readiness says whether its store is well."""

    def close(self) -> None:
        """It has no file."""

    def _known(self, number: int, said: bytes) -> None:
        changed = unpacked(said)
        self._items.update({_key(item): item for item in changed})
        for told in self._told:
            told(changed)


class RegistryClerk:
    """The owner's side of `save`, one worker's."""

    def __init__(self, registry: Registry, post: Post) -> None:
        self._registry = registry
        post.asked(posting.SAVE, self._save)

    async def _save(self, said: bytes) -> bytes:
        await self._registry.save(unpacked(said))
        return b""


def _key(item: Described) -> Key:
    return item.kind, item.upstream, item.name


def packed(items: Sequence[Described]) -> bytes:
    """As whoever described it wrote it: numbers beyond 64 bits and lone surrogates too."""
    return json.dumps([astuple(item) for item in items]).encode()


def unpacked(said: bytes) -> list[Described]:
    at = [one.name for one in fields(Described)].index("standing")
    found = []
    for row in json.loads(said):
        row[at] = Standing(row[at])
        found.append(Described(*row))
    return found


async def _asked(post: Post, kind: bytes, said: bytes) -> bytes:
    try:
        return await post.ask(kind, said)
    except (PostGone, PostRefused) as error:
        raise StoreFailed(str(error)) from None
