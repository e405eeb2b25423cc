"""`tollgate decide`: what would policy say? One access request from a file, decided by the engine that serves.

Exit code 0 allow, 3 deny, 1 when the engine failed: a deny that is a fault is not an answer of the policy.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from functools import partial
from pathlib import Path

import click

from gateway import config
from gateway.assembly_bundles import candidate_source
from gateway.assembly_candidates import Arranging
from gateway.assembly_keys import open_vault
from gateway.assembly_policy import close_engine, make_engine
from gateway.assembly_why import why_asked
from gateway.cli.output import DENIED, FAILED, OK, USAGE, Stop, data, json_option
from gateway.cli.told import why
from gateway.core.access import AccessRequest
from gateway.core.canonical import Json, parse_object
from gateway.core.exchange import Decision
from gateway.core.reasons import Malformed

_INPUT_BYTES = 16 * 1024 * 1024
_EPILOG = """\b
Examples:
  tollgate decide --bundle policies --input request.json
  tollgate decide --config gateway.yaml --input - < request.json && echo allowed
  tollgate decide --bundle policies --input request.json --explain

\b
The input is an access request in AuthZEN's shape, as policies see it:
  {"subject": {"type": "agent", "id": "agent:idp/planner", "properties": {"roles": ["reader"]}},
   "action": {"name": "mcp.tools/call"}, "resource": {"type": "tool", "id": "weather/get_forecast"},
   "context": {"arguments": {"city": "Oslo"}, "listing": false}}
"""


@click.command("decide", epilog=_EPILOG)
@click.option("--input", "source", required=True, metavar="FILE|-", help="The access request; - is stdin.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="The policy's folder or bundle (default: the configuration's)."
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="Take policy settings from this configuration.")
@click.option("--explain", is_flag=True, help="Say why: the rules, what they looked for, what would be allowed.")
@json_option
def command(source: str, bundle: Path | None, file: Path | None, explain: bool, as_json: bool) -> int:
    """Decide one access request; exit code 0 allow, 3 deny, 1 engine fault."""
    settings = _policy(bundle, file)
    request = _request(source)
    decision, told = asyncio.run(_decide(settings, request, explain))
    document: dict[str, Json] = {
        "decision": decision.allow,
        "context": {
            "reason": decision.reason,
            "rule": decision.rule,
            "obligations": [{"type": item.type, **item.values} for item in decision.obligations],
        },
        "engine": decision.engine,
        "revision": decision.revision,
        "fault": decision.fault,
        "ms": round(decision.ms, 3),
    }
    if decision.input:
        document["input"] = decision.input
    if decision.id:
        document["id"] = decision.id
    word = "fault" if decision.fault else "allow" if decision.allow else "deny"
    text = f"{word}: {decision.reason or 'no reason given'} (rule {decision.rule or 'none'})"
    if told is not None:
        document["why"] = told
        text = "\n".join([text, "", *why(told)])
    data(document, text, as_json)
    return FAILED if decision.fault else OK if decision.allow else DENIED


def _policy(bundle: Path | None, file: Path | None) -> config.Policy:
    """The policy settings of the configuration, or the defaults, with the folder that was named. Secrets are read only
    where an engine is asked with one."""
    from dataclasses import replace
    from os import environ

    found = config.load(file, environ, secrets=False).policy if file is not None else config.Policy()
    if bundle is not None:
        return replace(found, engine="embedded", bundle=bundle, rollout=None)
    tokens = [found.token, found.rollout.token if found.rollout is not None else None]
    if file is not None and any(token is not None for token in tokens):
        return config.load(file, environ, vault=open_vault).policy
    return found


def _request(source: str) -> AccessRequest:
    if source == "-":
        raw = sys.stdin.buffer.read(_INPUT_BYTES + 1)
    else:
        with Path(source).open("rb") as stream:
            raw = stream.read(_INPUT_BYTES + 1)
    if len(raw) > _INPUT_BYTES:
        raise Stop(f"{source}: larger than {_INPUT_BYTES} bytes", USAGE)
    try:
        document = parse_object(raw)
    except Malformed as error:
        raise Stop(f"{source}: {error}", USAGE) from None
    lacking = [name for name in ("subject", "action", "resource") if not isinstance(document.get(name), dict)]
    if lacking:
        raise Stop(f"{source}: no access request: {', '.join(lacking)} must be objects", USAGE)
    return AccessRequest(document)


async def _decide(
    settings: config.Policy, request: AccessRequest, explain: bool
) -> tuple[Decision, dict[str, Json] | None]:
    read = partial(make_engine, source=lambda policy: candidate_source(policy.bundle))  # a question, whoever signed it
    engine = Arranging(read, None)(settings)  # for this subject, where a candidate has a share of them
    try:
        answer = engine.decide(request)
        decision = await answer if isinstance(answer, Awaitable) else answer
        return decision, await asyncio.to_thread(why_asked, engine, request.document, decision) if explain else None
    finally:
        await close_engine(engine)
