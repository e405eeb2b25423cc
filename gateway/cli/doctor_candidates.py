"""The doctor's look at what stands around the policy in force: report mode, a roll-out, a shadow engine.

What is not enforced is a warning whatever else is well: nobody is to find out by a call that should have been refused.
"""

from __future__ import annotations

from gateway import config
from gateway.assembly_bundles import files_source
from gateway.assembly_candidates import of_side
from gateway.assembly_policy import ReadPolicy, make_engine
from gateway.cli.doctor_checks import FAIL, GOOD, WARN, Finding
from gateway.core.bundles import BundleRefused
from gateway.pdp.syntax import PolicyRefused
from gateway.trust.keys import KeyRingError


def candidates(whole: config.Settings) -> list[Finding]:
    found: list[Finding] = []
    settings, source = whole.policy, files_source(whole)
    if settings.mode == "report":
        said = "report: nothing that policy denies is refused, it is only recorded; set policy.mode: enforce"
        found.append(Finding("policy mode", WARN, said))
    if settings.rollout is not None:
        for_whom = f"decides for {settings.rollout.percent:.4g} of the subjects (1 is all)"
        found.append(_side("policy roll-out", of_side(settings, settings.rollout), for_whom, source))
    if settings.shadow is not None:
        what = "is asked on the side, never obeyed"
        found.append(_side("policy shadow", of_side(settings, settings.shadow), what, source))
    return found


def _side(name: str, settings: config.Policy, what: str, source: ReadPolicy) -> Finding:
    where = settings.url or str(settings.bundle)
    try:
        engine = make_engine(settings, source=source)
    except (PolicyRefused, BundleRefused, KeyRingError, OSError, RuntimeError) as error:
        return Finding(name, FAIL, f"{error}")
    return Finding(name, GOOD, f"{settings.engine} {where} {what}: {engine.revision}")
