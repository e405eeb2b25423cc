"""Pins at work: what MCP upstreams list is compared with what was approved, and calls reach only what may be reached.

1. A list that passes is judged item by item before its caller sees it; what is not as it was approved is hidden. 2. A
call, a prompt or a read is refused unless its pin is in the table of what may be reached. 3. The gateway lists for
itself: before the first call, then every `refresh`, and when an upstream says that a list changed; so a change is found
though nobody lists. 4. What cannot be listed or stored approves nothing: what was approved before goes on, all else is
refused. What comes of a list is learning.py's; its lock orders everything that changes the registry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.core.canonical import Json
from gateway.core.descriptors import Described, PinOwner, Registry, Standing, Unapprovable
from gateway.core.exchange import Call, Exchange
from gateway.core.pipeline import CONTINUE, Verdict
from gateway.core.ports import Clock
from gateway.core.reasons import Malformed, Reason, Refusal, StoreFailed, UpstreamFailed
from gateway.core.snapshot import Upstream
from gateway.trust.learning import Learner, Note
from gateway.trust.tools import SHAPES, Named, Pin, Rules, approved, kept
from gateway.trust.watched import Good, PinSettings, Watched

LIST_SECONDS = 15.0  # for all lists of one upstream; a first call waits no longer
RETRY_SECONDS = 5.0
LEAST_SECONDS = 1.0  # between two listings: an upstream cannot make us ask without end

Lister = Callable[[Upstream], Awaitable[Mapping[str, list[dict[str, Json]]]]]
Manifests = Callable[[PinSettings], Awaitable[tuple[Named, ...]]]

_log = logging.getLogger("tollgate.pins")


class Pins:
    """A DescriptorCheck, and the ports Listings and Approvals. `lister` fetches all lists of an upstream (raises
    UpstreamFailed, Malformed), `manifests` what is signed for it (raises the same), `note` records: an action and what
    it is about. With an `owner`, which is another process, it lists and learns nothing itself: the owner does, and the
    registry says what came of it."""

    def __init__(
        self,
        registry: Registry,
        lister: Lister,
        manifests: Manifests,
        note: Note,
        clock: Clock,
        owner: PinOwner | None = None,
    ) -> None:
        self._owner = owner
        self._registry = registry
        self._lister = lister
        self._manifests = manifests
        self._learner = Learner(registry, note, clock)
        self._clock = clock
        self._watched: dict[str, Watched] = {}
        self._pinned: dict[str, Watched] = {}
        self._wake = asyncio.Event()
        registry.subscribe(self._told)

    def adopt(self, upstreams: Iterable[tuple[Upstream, PinSettings]]) -> None:
        """The settings in force from now on. An upstream that is gone keeps its pins: an exchange may still hold it."""
        for upstream, settings in upstreams:
            watch = self._watched.get(upstream.name)
            if watch is None:
                watch = Watched(upstream, settings, Rules(settings.pin, (), self._owner is not None))
                self._watched[upstream.name] = watch
            elif (watch.upstream, watch.settings) != (upstream, settings):
                same = (watch.settings.manifest, watch.settings.trusted) == (settings.manifest, settings.trusted)
                watch.rules = replace(watch.rules, pin=settings.pin, manifests=watch.rules.manifests if same else ())
                watch.upstream, watch.settings, watch.ready, watch.due = upstream, settings, False, 0.0
                watch.judged = False
            for item in self._registry.items(upstream=upstream.name):
                watch.place(item)
            if settings.pin is Pin.NONE:
                self._pinned.pop(upstream.name, None)
            else:
                self._pinned[upstream.name] = watch
        self._wake.set()

    def pin(self, upstream: str) -> str:
        watch = self._watched.get(upstream)
        return str(watch.rules.pin) if watch is not None else ""

    def failure(self, upstream: str) -> str:
        watch = self._watched.get(upstream)
        return watch.failed if watch is not None else ""

    def check(self, exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        """2, on the hot path."""
        watch = self._pinned.get(exchange.upstream.name)
        if watch is None:
            return CONTINUE
        call = exchange.asked
        if not isinstance(call, Call):
            return CONTINUE
        kind = call.resource_type
        table = watch.tables.get(kind)
        if table is None:
            return CONTINUE if watch.ready or not call.listing else self._once_listed(watch, exchange, call)
        good = table.get(call.resource_id)
        if good is not None and watch.ready:
            return _passed(exchange, kind, good)
        return self._once_listed(watch, exchange, call)

    async def shown(
        self, upstream: str, listing: str, items: Sequence[Mapping[str, Json]], whole: bool
    ) -> Sequence[bool] | None:
        """1."""
        watch = self._watched.get(upstream)
        if watch is None:
            return None
        shape = SHAPES[listing]
        found = [watch.seen(shape, item) for item in items]
        if any(new for _, new in found) or (whole and self._learner.unpinned(watch, listing)):
            if self._owner is not None:
                await self._owner.learn(upstream, listing, items, whole)
            else:
                await self._learner.learn(watch, listing, [seen for seen, _ in found], whole)
        return [watch.shows(seen) for seen, _ in found]

    def stale(self, upstream: str) -> None:
        """3: an upstream said that a list of its changed."""
        if self._owner is not None:
            self._owner.stale(upstream)
            return
        watch = self._pinned.get(upstream)
        if watch is not None:
            watch.due = max(self._clock.monotonic(), watch.ended + LEAST_SECONDS)
            self._wake.set()

    async def approve(
        self,
        wanted: Sequence[tuple[str, str, str, str]],
        by: str,
        recorded: Callable[[Sequence[Described]], Awaitable[None]],
    ) -> Sequence[Described]:
        async with self._learner.lock:
            made: list[Described] = []
            for kind, upstream, name, pin in wanted:
                item = self._registry.find(kind, upstream, name)
                if item is None:
                    raise Unapprovable(f"no {kind} {upstream}/{name} was ever seen", stale=False)
                if not pin or pin not in (item.digest, item.approved):
                    raise Unapprovable(f"{upstream}/{name} is {item.digest or 'nothing'} by now, not {pin}", stale=True)
                item = approved(item, by) if pin == item.digest else replace(kept(item), by=by)
                made.append(replace(item, standing=Standing.VERIFIED, why="", changed=self._clock.time()))
            await recorded(made)
            await self._registry.save(made)
            for _, upstream, _, _ in wanted:
                if (watch := self._watched.get(upstream)) is not None:
                    watch.forget()
            return made

    async def watch(self) -> None:
        """3: lists what is due, for ever."""
        while True:
            now = self._clock.monotonic()
            waiting = [watch for watch in self._pinned.values() if watch.listing is None]
            for watch in waiting:
                if watch.due <= now:
                    self._begin(watch)
            soonest = min((watch.due for watch in waiting if watch.listing is None), default=now + 60.0)
            self._wake.clear()
            try:
                async with asyncio.timeout(max(0.05, soonest - now)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def refresh(self, upstream: str) -> str:
        """Lists now; why nothing came of it, "" where something did."""
        watch = self._watched[upstream]
        await asyncio.wait([self._begin(watch)])
        return watch.failed

    async def listed(self, upstream: str) -> tuple[str, bool]:
        """Waits for the first list, and looks once more where none came; why the last one brought nothing, and whether
        one ever did."""
        watch = self._watched.get(upstream)
        if watch is None:
            return "", True
        due = not watch.listed and self._clock.monotonic() - watch.ended >= LEAST_SECONDS
        if not watch.ready or watch.listing is not None or due:
            await asyncio.wait([self._begin(watch)], timeout=LIST_SECONDS)
        return watch.failed, watch.listed

    async def aclose(self) -> None:
        tasks = [watch.listing for watch in self._watched.values() if watch.listing is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _once_listed(self, watch: Watched, exchange: Exchange, call: Call) -> Verdict:
        """Off the hot path: the first call waits for the first list, and what is not known is looked for once more if
        no list came since the start."""
        await self.listed(watch.upstream.name)
        table = watch.tables.get(call.resource_type)
        if table is None:
            return CONTINUE
        good = table.get(call.resource_id)
        if good is not None:
            return _passed(exchange, call.resource_type, good)
        if call.resource_type == "resource":
            return self._resource(watch, exchange, call.resource_id)
        name = call.resource_id.removeprefix(watch.upstream.name + "/")
        return self._refused(watch, call.resource_type, name)

    def _resource(self, watch: Watched, exchange: Exchange, uri: str) -> Verdict:
        """A listed resource counts for itself, any other as one of a template."""
        upstream = watch.upstream.name
        if self._registry.find("resource", upstream, uri) is not None:
            return self._refused(watch, "resource", uri)
        for template, (matches, good) in watch.templates.items():
            if template == uri or matches.fullmatch(uri) is not None:
                return _passed(exchange, "resource_template", good)
        known = [item.name for item in self._registry.items("resource_template", upstream)]
        for template in watch.matching(uri, known):
            return self._refused(watch, "resource_template", template)
        return CONTINUE if watch.rules.pin is Pin.FIRST_USE and watch.listed else self._refused(watch, "resource", uri)

    def _refused(self, watch: Watched, kind: str, name: str) -> Refusal:
        upstream = watch.upstream.name
        item = self._registry.find(kind, upstream, name)
        what = f"The {kind.replace('_', ' ')} {name} of {upstream}"
        if item is not None and item.standing is Standing.QUARANTINED:
            text = f"{what} is not what was approved; it is in quarantine until an administrator releases it"
            return Refusal(Reason.DESCRIPTOR_CHANGED, text, rule=item.why)
        why = item.why if item is not None else watch.failed or "it is in no list"
        return Refusal(Reason.DESCRIPTOR_UNVERIFIED, f"{what} has not been approved", rule=why)

    def _told(self, changed: Sequence[Described]) -> None:
        for item in changed:
            watch = self._watched.get(item.upstream)
            if watch is not None:
                watch.place(item)

    def _begin(self, watch: Watched) -> asyncio.Task[None]:
        if watch.listing is None:
            job = self._list(watch) if self._owner is None else self._wait(watch, self._owner)
            watch.listing = asyncio.create_task(job, name=f"list {watch.upstream.name}")
        return watch.listing

    async def _wait(self, watch: Watched, owner: PinOwner) -> None:
        """The owner lists; what came of it is in the registry by then."""
        failed, listed = "its lists cannot be had: the process that lists is gone", False
        try:
            failed, listed = await owner.listed(watch.upstream.name)
        except StoreFailed as error:
            _log.warning("upstream %s: %s", watch.upstream.name, error)
        finally:
            watch.failed, watch.listed, watch.ready, watch.listing = failed, listed, True, None
            watch.ended = self._clock.monotonic()

    async def _list(self, watch: Watched) -> None:
        wait, failed = RETRY_SECONDS, ""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                failed = await self._sign(watch)
                lists = await self._lister(watch.upstream)
            for listing, items in lists.items():
                await self.shown(watch.upstream.name, listing, items, True)
            wait, watch.listed = RETRY_SECONDS if failed else watch.settings.refresh, True
        except TimeoutError:
            failed = f"its lists were not there within {LIST_SECONDS:g} s"
        except (UpstreamFailed, Malformed) as error:
            failed = f"its lists cannot be had: {error}"
        except Exception as fault:  # noqa: BLE001 (a background loop: the next listing may succeed)
            _log.exception("listing %s failed", watch.upstream.name)
            failed = f"its lists cannot be kept: {fault}"
        finally:
            if failed and failed != watch.failed:
                _log.warning("upstream %s: %s", watch.upstream.name, failed)
            watch.failed, watch.ready, watch.listing = failed, True, None
            watch.ended = self._clock.monotonic()
            ends = min((named.until for named in watch.rules.manifests), default=float("inf")) - self._clock.time()
            watch.due = watch.ended + min(wait, watch.settings.refresh, max(ends, LEAST_SECONDS))
            self._wake.set()

    async def _sign(self, watch: Watched) -> str:
        """Takes over what is signed by now: an item that a manifest no longer names is not signed any more. A manifest
        that cannot be had is believed as long as it said; one that does not verify takes all it named away. Why there
        is none, "" where there is."""
        failed = ""
        manifests: tuple[Named, ...] = ()
        if watch.settings.manifest:
            try:
                manifests = await self._manifests(watch.settings)
            except Malformed as error:
                failed = f"its manifest does not count: {error}"
            except UpstreamFailed as unreachable:
                failed = f"its manifest cannot be had: {unreachable}"
                manifests = tuple(named for named in watch.rules.manifests if named.until > self._clock.time())
        if manifests != watch.rules.manifests or not watch.judged:
            await self._learner.judge_anew(watch, manifests)
        return failed


def _passed(exchange: Exchange, kind: str, good: Good) -> Verdict:
    exchange.item_digest = good.digest
    if exchange.descriptor is None:
        exchange.descriptor = {kind: good.descriptor}
    else:
        exchange.descriptor[kind] = good.descriptor
    return CONTINUE
