"""The demo's MCP server and A2A agent, on their official SDKs: what a user would have, not a stand-in."""

from __future__ import annotations

import asyncio
import json

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryPushNotificationConfigStore, InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Part,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.signing import ProtectedHeader, create_agent_card_signer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.trust.jose import signer

FORECASTS = {"Oslo": "-4 °C, snow", "Bergen": "6 °C, rain", "Madrid": "14 °C, clear"}


def weather() -> Starlette:
    """An MCP server with three tools; one of them nobody should call by accident."""
    server = MCPServer("weather", version="1.0.0", instructions="Forecasts for a few cities.")

    @server.tool()
    async def get_forecast(city: str, context: Context, days: int = 1) -> str:
        """The forecast for a city."""
        for day in range(1, days if days > 1 else 0):
            await context.report_progress(day, days, f"day {day}")
        return f"{city}: {FORECASTS.get(city, 'no data')} for {days} day(s)"

    @server.tool()
    def delete_station(station: str) -> str:
        """Deletes a weather station and all its measurements."""
        return f"station {station} deleted"

    @server.tool()
    def transfer(account: str, amount: float) -> str:
        """Pays an invoice."""
        return f"{amount:.2f} paid to {account}"

    @server.resource("weather://cities")
    def cities() -> str:
        """The cities there are forecasts for."""
        return json.dumps(sorted(FORECASTS))

    @server.resource("weather://city/{name}")
    def city(name: str) -> str:
        """The forecast for one city."""
        return FORECASTS.get(name, "no data")

    @server.prompt()
    def packing(city: str) -> str:
        """What to pack for a trip."""
        return f"List what to pack for {city}, given: {FORECASTS.get(city, 'no data')}"

    return server.streamable_http_app()


class Concierge(AgentExecutor):
    """Answers in three steps, so that a stream has something to show; asks back where it is not told for how many."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id = context.task_id or "", context.context_id or ""
        updater = TaskUpdater(event_queue, task_id, context_id)
        if context.current_task is None:
            task = Task(id=task_id, context_id=context_id, status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED))
            await event_queue.enqueue_event(task)
        await updater.start_work()
        if " for " not in context.get_user_input():
            await updater.requires_input()
            return
        for word in ("Table", "booked,", "20:00."):
            await updater.add_artifact(
                [Part(text=word + " ")], artifact_id="answer", append=word != "Table", last_chunk=word == "20:00."
            )
            await asyncio.sleep(0)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


def card(base: str) -> AgentCard:
    """The agent's card as v1.0 has it, reachable by both HTTP bindings."""
    return AgentCard(
        name="concierge",
        description="Books tables.",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=f"{base}/rpc", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"{base}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[
            AgentSkill(id="book", name="Book a table", description="Books a table for the evening.", tags=["dinner"])
        ],
    )


def concierge(base: str, signing_key: bytes) -> Starlette:
    """The agent at `base` with a signed card, its public key beside it. `signing_key` is an EC P-256 key in PEM."""
    protected: ProtectedHeader = {"alg": "ES256", "kid": "demo", "jku": None, "typ": "JOSE"}
    signed = create_agent_card_signer(signing_key, protected)(card(base))
    handler = DefaultRequestHandler(
        agent_executor=Concierge(),
        task_store=InMemoryTaskStore(),
        agent_card=signed,
        push_config_store=InMemoryPushNotificationConfigStore(),  # kept, and nobody is told: there is no sender
    )
    private = load_pem_private_key(signing_key, None)
    if not isinstance(private, EllipticCurvePrivateKey):
        raise TypeError("the agent signs with ES256")
    published = {"keys": [signer(private, "demo").jwk()]}

    async def keys(request: Request) -> JSONResponse:
        return JSONResponse(published)

    routes = [
        Route("/jwks.json", keys),
        *create_agent_card_routes(signed),
        *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=True),
        *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=True),
    ]
    return Starlette(routes=routes)
