"""An MCP server on its official SDK whose descriptions change while it runs, and a caller that asks it through a
gateway, one request at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from mcp import types
from mcp.server.lowlevel import Server
from rig import Running

from tests.serving import serving

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "rig", "version": "1"},
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
POLICY = "package tollgate\n\ndecision := true\n"


def tool(name: str = "forecast", **members: Any) -> types.Tool:
    return types.Tool(**{"name": name, "description": "The forecast for a city.", "inputSchema": SCHEMA, **members})


@dataclass
class Changing:
    """What the server describes now. `called` is what reached it, `listed` how often it was asked for its prompts
    (its tools the SDK asks for by itself at each call)."""

    url: str = ""
    tools: list[types.Tool] = field(default_factory=lambda: [tool()])
    prompts: list[types.Prompt] = field(
        default_factory=lambda: [types.Prompt(name="packing", description="What to pack")]
    )
    resources: list[types.Resource] = field(default_factory=list)
    templates: list[types.ResourceTemplate] = field(
        default_factory=lambda: [
            types.ResourceTemplate(name="city", uriTemplate="weather://city/{name}", description="One city")
        ]
    )
    called: list[str] = field(default_factory=list)
    listed: int = 0

    def server(self) -> Server[Any]:
        async def tools(context: Any, params: Any) -> types.ListToolsResult:
            return types.ListToolsResult(tools=self.tools)

        async def call(context: Any, params: Any) -> types.CallToolResult:
            self.called.append(params.name)
            if params.name == "announce":
                await context.session.send_tool_list_changed()
            return types.CallToolResult(content=[types.TextContent(type="text", text="snow")])

        async def prompts(context: Any, params: Any) -> types.ListPromptsResult:
            self.listed += 1
            return types.ListPromptsResult(prompts=self.prompts)

        async def prompt(context: Any, params: Any) -> types.GetPromptResult:
            self.called.append(params.name)
            return types.GetPromptResult(messages=[])

        async def resources(context: Any, params: Any) -> types.ListResourcesResult:
            return types.ListResourcesResult(resources=self.resources)

        async def templates(context: Any, params: Any) -> types.ListResourceTemplatesResult:
            return types.ListResourceTemplatesResult(resourceTemplates=self.templates)

        async def read(context: Any, params: Any) -> types.ReadResourceResult:
            self.called.append(str(params.uri))
            return types.ReadResourceResult(contents=[])

        return Server(
            "changing", on_list_tools=tools, on_call_tool=call, on_list_prompts=prompts, on_get_prompt=prompt,
            on_list_resources=resources, on_list_resource_templates=templates, on_read_resource=read,
        )  # fmt: skip


@contextmanager
def changing() -> Iterator[Changing]:
    """The server on a free port, in a thread of this process."""
    found = Changing()
    with serving(found.server().streamable_http_app()) as base:
        found.url = base + "/mcp"
        yield found


def pinned(url: str, pin: str, **tools: Any) -> dict[str, Any]:
    """The sections of a configuration with that server behind /weather."""
    return {
        "upstreams": {"weather": {"url": url, "protocol": "mcp", "tools": {"pin": pin, "refresh": "1h", **tools}}},
        "routes": [{"name": "weather", "match": {"path": "/weather"}, "upstream": "weather"}],
    }


class Caller:
    """Asks in the modern era, where every request stands for itself."""

    def __init__(self, running: Running, token: str | None = None, path: str = "/weather") -> None:
        self.token = token or running.issuer.token(roles=("admin", "reader"))
        self.url = running.url + path
        self.sent = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The JSON-RPC response."""
        self.sent += 1
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": method,
        }
        if method in NAMED:
            headers["mcp-name"] = params[NAMED[method]]
        message = {"jsonrpc": "2.0", "id": self.sent, "method": method, "params": {**params, "_meta": META}}
        answer = httpx.post(self.url, json=message, headers=headers, timeout=30)
        found: dict[str, Any] = answer.json()
        return found

    def names(self, listing: str = "tools") -> list[str]:
        member, key = {
            "tools": ("tools", "name"), "prompts": ("prompts", "name"), "resources": ("resources", "uri"),
            "resources/templates": ("resourceTemplates", "uriTemplate"),
        }[listing]  # fmt: skip
        return [item[key] for item in self.ask(f"{listing}/list")["result"][member]]

    def call(self, name: str = "forecast") -> str:
        """ "ok", or the refusal's reason."""
        return outcome(self.ask("tools/call", name=name, arguments={"city": "Oslo"}))


def outcome(answer: dict[str, Any]) -> str:
    return str(answer["error"]["data"]["reason"]) if "error" in answer else "ok"
