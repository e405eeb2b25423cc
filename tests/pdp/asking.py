"""What the tests of the engines ask: a policy from its text, a request from a few words, an answer waited for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

from gateway.core.access import AccessRequest
from gateway.core.exchange import Decision
from gateway.pdp.embedded import EmbeddedEngine, EmbeddedSettings
from gateway.pdp.sources import PolicySource, source_of


def policy(text: str, data: dict[str, Any] | None = None, **more: str) -> PolicySource:
    """`text` stands in policy.rego of package tollgate; `more` are further modules, `lib` for lib.rego."""
    modules = {f"{name}.rego": body for name, body in more.items()}
    return source_of({"policy.rego": "package tollgate\n\n" + text, **modules}, data)


def engine(text: str, data: dict[str, Any] | None = None, **settings: Any) -> EmbeddedEngine:
    return EmbeddedEngine(policy(text, data), EmbeddedSettings(**settings))


def request(arguments: Any = None, **context: Any) -> AccessRequest:
    """A tool call of agent:idp/planner with the role reader."""
    described: dict[str, Any] = {
        "time": "2026-11-22T12:00:00Z",
        "listing": False,
        "request": {"id": "0190", "method": "POST", "path": "/weather", "peer": "127.0.0.1", "headers": {}},
        **context,
    }
    if arguments is not None:
        described["arguments"] = arguments
    subject = {"type": "agent", "id": "agent:idp/planner", "properties": {"roles": ["reader"], "org": "acme"}}
    resource = {"type": "tool", "id": "weather/get", "properties": {"route": "weather", "upstream": "weather"}}
    return AccessRequest(
        {"subject": subject, "action": {"name": "mcp.tools/call"}, "resource": resource, "context": described}
    )


def now(answer: Decision | Awaitable[Decision]) -> Decision:
    """An answer that must be there at once."""
    assert isinstance(answer, Decision), "the decision is made in the child process"
    return answer


async def settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def run(job: Any, seconds: float = 60) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await job

    return asyncio.run(bounded())
