"""The data plane, put together: from the parts of a process to what its listener serves, and what runs beside it.

Which stages a request passes is app.py's (`build_pipeline`), which calls this for the gateway itself and for each of
its workers. The rule: whatever a request needs is in `DataParts`, so that a worker is not another gateway.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway import config
from gateway.assembly import Assembly
from gateway.assembly_capture import make_capture
from gateway.assembly_cards import Cards
from gateway.assembly_life import Job, every
from gateway.assembly_planes import data_plane
from gateway.assembly_trust import Descriptors
from gateway.assembly_upstreams import Upkeep
from gateway.assembly_wallet import Wallet
from gateway.core.ids import Ids
from gateway.core.pipeline import Pipeline
from gateway.core.ports import Clock, Handles, Observer, Protocol, RecordLog
from gateway.core.snapshot import Snapshot
from gateway.log.noise import Noise
from gateway.pdp.shadow import Comparisons
from gateway.protocols.http import Http
from gateway.protocols.llm import ANTHROPIC, OPENAI, Llm
from gateway.protocols.redacted import redacting
from gateway.stages.capture import CaptureInput
from gateway.stages.forward import target
from gateway.trust.jwks import KeySources
from gateway.wire.answers import Answers
from gateway.wire.asgi import Gateway
from gateway.wire.headers import AnswerHeaders, request_headers
from gateway.wire.protected_resource import ProtectedResources
from gateway.wire.relay import WebSockets
from gateway.wire.server import Front
from gateway.wire.sockets import Sockets
from gateway.wire.streams import Streams
from gateway.wire.upstream import Clients


@dataclass(frozen=True, slots=True)
class DataParts:
    """What a data plane stands on. `share`: how many processes serve it together, each on `sockets` of its
    own."""

    settings: config.Settings
    snapshot: Callable[[], Snapshot]
    log: RecordLog
    handles: Handles
    descriptors: Descriptors
    clients: Clients
    upkeep: Upkeep
    resources: ProtectedResources
    relays: WebSockets
    streams: Streams
    comparisons: Comparisons
    observer: Observer
    noise: Noise
    ids: Ids
    clock: Clock
    share: int = 1
    sockets: tuple[socket.socket, ...] = ()


def data_parts(
    settings: config.Settings,
    snapshot: Callable[[], Snapshot],
    *,
    log: RecordLog,
    handles: Handles,
    descriptors: Descriptors,
    clients: Clients,
    upkeep: Upkeep,
    comparisons: Comparisons,
    observer: Observer,
    ids: Ids,
    clock: Clock,
    share: int = 1,
    sockets: Sequence[socket.socket] = (),
) -> DataParts:
    """With what the data plane has to itself: the streams and sockets that go through it, and what it makes known."""
    streams = Streams(snapshot, descriptors.switch.barred)
    relays = WebSockets(clients.tls, max_message_bytes=settings.front.judged_body_bytes)
    descriptors.on_change(streams.sweep, relays.sweep)
    return DataParts(
        settings=settings,
        snapshot=snapshot,
        log=log,
        handles=handles,
        descriptors=descriptors,
        clients=clients,
        upkeep=upkeep,
        resources=ProtectedResources(clients),
        relays=relays,
        streams=streams,
        comparisons=comparisons,
        observer=observer,
        noise=Noise(log, ids, clock),
        ids=ids,
        clock=clock,
        share=share,
        sockets=tuple(sockets),
    )


def data_jobs(
    parts: DataParts, sources: KeySources, cards: Cards, files: Callable[[], Awaitable[None]]
) -> tuple[Job, ...]:
    """What runs beside the data plane in each of its processes. `files` looks whether those of credentials changed."""

    async def flush() -> None:
        parts.noise.flush()

    return (
        ("streams", parts.streams.watch()),
        ("key sources", sources.watch()),
        ("cards", cards.watch()),
        ("credential files", every(0.5, files)),
        ("shadow", parts.comparisons.watch()),
        ("health", parts.upkeep.health.watch()),
        ("noise", every(1.0, flush)),
    )


async def poll_files(assembly: Assembly, wallet: Wallet) -> None:
    """Credentials are read anew where their files changed."""
    if assembly.api_keys is not None:
        await asyncio.to_thread(assembly.api_keys.poll)
    await asyncio.to_thread(wallet.poll)


async def close_parts(parts: DataParts) -> None:
    """Nothing is under way any more: what is open towards others is closed."""
    await parts.resources.aclose()
    await parts.descriptors.aclose()
    await parts.relays.aclose()
    await parts.clients.aclose()


def data_front(
    parts: DataParts,
    protocols: Mapping[str, Protocol],
    pipeline: Callable[[CaptureInput, Sockets], Pipeline],
    messages: Callable[[CaptureInput], Pipeline],
) -> Front:
    """Raises CannotListen for TLS files that cannot be used."""
    kept = make_capture(parts.settings)
    capture, parts.comparisons.keep = CaptureInput(kept), kept.of
    answer_headers = AnswerHeaders(parts.clock.time, parts.resources.challenge)
    answers = Answers(
        targets=parts.clients,
        request_headers=request_headers,
        answer_headers=answer_headers,
        target=target,
        redact=redacting,
        streams=parts.streams,
        handles=parts.handles,
        log=parts.log,
        ids=parts.ids,
        clock=parts.clock,
    )
    sockets = Sockets(
        relays=parts.relays,
        messages={"http": Http(), "openai": Llm(OPENAI), "anthropic": Llm(ANTHROPIC)},
        request_headers=request_headers,
        answer_headers=answers.headers,
        pipeline=messages(capture),
        current=parts.snapshot,
        streams=parts.streams,
        ids=parts.ids,
        clock=parts.clock,
    )
    gateway = Gateway(
        current=parts.snapshot,
        pipeline=pipeline(capture, sockets),
        protocols=protocols,
        answers=answers,
        sockets=sockets,
        metadata=parts.resources.document,
        ids=parts.ids,
        clock=parts.clock,
    )
    return data_plane(gateway, parts.settings, parts.noise, parts.clock, parts.share, parts.sockets)
