"""Engines around engines: report mode, a candidate for a share of the subjects, a second engine beside.

Called from app.py and the other assembly files. The rule it keeps: where none of it is configured the snapshot's engine
is the plain one, so that what is off costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol as Port

from gateway import config
from gateway.control.shadow import Shadows
from gateway.core.canonical import Json
from gateway.core.ports import DecisionPoint
from gateway.pdp.report import Reporting
from gateway.pdp.rollout import Rollout
from gateway.pdp.shadow import Comparisons, Shadow, ShadowSettings
from gateway.telemetry import Gauge

_log = logging.getLogger("tollgate")


class MakeEngine(Port):
    """A plain engine from policy settings; `apart` keeps it off the event loop."""

    def __call__(self, settings: config.Policy, *, apart: bool = False) -> DecisionPoint: ...


class Arranging:
    """Makes the engine of a snapshot from the policy settings. `comparisons` outlives snapshots; without it nothing is
    asked on the side."""

    def __init__(self, make: MakeEngine, comparisons: Comparisons | None) -> None:
        self._make = make
        self._comparisons = comparisons

    def __call__(self, settings: config.Policy) -> DecisionPoint:
        """Raises PolicyRefused, OSError: also where it is the candidate that cannot be read."""
        engine = self._make(settings)
        rollout, shadow = settings.rollout, settings.shadow
        if rollout is not None:
            engine = Rollout(engine, self._make(of_side(settings, rollout)), rollout.percent, rollout.salt)
        if shadow is not None and self._comparisons is not None:
            side = of_side(settings, shadow)
            beside = self._make(side, apart=True)
            engine = Shadow(
                engine, beside, ShadowSettings(shadow.sample, shadow.queue, side.timeout), self._comparisons
            )
        return Reporting(engine) if settings.mode == "report" else engine


def of_side(settings: config.Policy, side: config.Shadow | config.Rollout) -> config.Policy:
    """The settings of the engine beside. Folder and timeout are as in `policy` where it does not say them; what is an
    engine's own, its address and our credential there, never is."""
    return replace(
        settings,
        mode="enforce",
        shadow=None,
        rollout=None,
        name="",  # what is pushed is not for it
        engine=side.engine,
        url=side.url,
        query=side.query,
        token=side.token,
        tls=side.tls,
        cerbos=side.cerbos,
        authzen=side.authzen,
        bundle=side.bundle or settings.bundle,
        timeout=side.timeout or settings.timeout,
    )


def inner_engines(engine: DecisionPoint) -> tuple[DecisionPoint, ...]:
    """Those that an engine is made of; none where it is a plain one."""
    return engine.inner if isinstance(engine, Reporting | Rollout | Shadow) else ()


def _around(engine: DecisionPoint) -> Iterator[DecisionPoint]:
    """The engines around the one in force, the outermost first."""
    while inner := inner_engines(engine):
        yield engine
        engine = inner[0]


def revisions(engine: DecisionPoint) -> list[str]:
    """Of all that can decide or is compared, the one in force first."""
    inner = inner_engines(engine)
    return [item for part in inner for item in revisions(part)] if inner else [engine.revision]


def deciding(engine: DecisionPoint) -> list[DecisionPoint]:
    """The plain engines whose decisions count, the one in force first."""
    inner = inner_engines(engine)
    if isinstance(engine, Shadow):
        return deciding(engine.engine)
    return [item for part in inner for item in deciding(part)] if inner else [engine]


def activated(engine: DecisionPoint) -> dict[str, Json]:
    """What the record of an activation says of the policy besides the revision in force."""
    found: dict[str, Json] = {"policy": engine.revision}
    for part in _around(engine):
        if isinstance(part, Reporting):
            found["mode"] = "report"
        elif isinstance(part, Shadow):
            found["shadow"] = part.beside.revision
        elif isinstance(part, Rollout):
            found["rollout"] = {"policy": part.candidate.revision, "parts_per_million": round(part.share * 1_000_000)}
    return found


def policy_status(engine: DecisionPoint, comparisons: Comparisons) -> dict[str, Json]:
    """Who decides, for whom, and whether it counts."""
    found: dict[str, Json] = {"engine": engine.name, "revision": engine.revision, "mode": "enforce"}
    for part in _around(engine):
        if isinstance(part, Reporting):
            found["mode"] = "report"
        elif isinstance(part, Shadow):
            found["shadow"] = {**shadow_status(part, comparisons), **comparisons.totals()}
        elif isinstance(part, Rollout):
            candidate: dict[str, Json] = {"engine": part.candidate.name, "revision": part.candidate.revision}
            found["rollout"] = {"share": part.share, **candidate}
    return found


def shadow_in(engine: DecisionPoint) -> Shadow | None:
    return next((part for part in _around(engine) if isinstance(part, Shadow)), None)


def shadow_status(shadow: Shadow, comparisons: Comparisons) -> dict[str, Json]:
    found: dict[str, Json] = {
        "engine": shadow.beside.name,
        "revision": shadow.beside.revision,
        "sample": shadow.settings.sample,
        "queue": shadow.settings.queue,
        "waiting": comparisons.waiting,
    }
    if comparisons.last_fault:
        found["last_fault"] = comparisons.last_fault
    return found


def shadows_of(engine: Callable[[], DecisionPoint], comparisons: Comparisons) -> Shadows:
    """What the admin plane shows of it."""

    def current() -> dict[str, Json] | None:
        found = shadow_in(engine())
        return shadow_status(found, comparisons) if found is not None else None

    return Shadows(comparisons, current)


def warn_of_report(settings: config.Policy) -> None:
    """What is not enforced must not be forgotten."""
    if settings.mode == "report":
        _log.warning(
            "policy.mode is report: NOTHING THAT POLICY DENIES IS REFUSED, it is only recorded as would-deny;"
            " set mode: enforce to be protected"
        )


def shadow_gauges(comparisons: Comparisons) -> list[Gauge]:
    return [
        Gauge(
            "tollgate_shadow_decisions",
            "Questions for the shadow engine. same, different, fault; dropped for want of room; skipped: no decision"
            " to compare with",
            ("outcome",),
            lambda: [((name,), float(count)) for name, count in comparisons.totals().items()],
            counts=True,
        ),
        Gauge(
            "tollgate_shadow_differences",
            "Decisions of the shadow that differ, by what differs",
            ("kind",),
            lambda: [((name,), float(count)) for name, count in comparisons.by_kind().items()],
            counts=True,
        ),
        Gauge(
            "tollgate_shadow_waiting",
            "Questions that wait for the shadow engine",
            (),
            lambda: [((), float(comparisons.waiting))],
        ),
    ]
