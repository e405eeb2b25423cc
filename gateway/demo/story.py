"""`tollgate demo`: starts everything on loopback, tells the story, then stays until Ctrl-C.

Nothing of it needs preparation and nothing is left behind: keys, log and stores live in a folder of their own that goes
when the demo ends. It refuses to listen beyond loopback: its keys are printed on the screen.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway import config
from gateway.app import App
from gateway.demo.chapters import CHAPTERS, Stage, StoryFailed
from gateway.demo.models import SAGA
from gateway.demo.started import NotStarted, upstreams
from gateway.identity.apikey import mint
from gateway.telemetry import log_to

ROOT = Path(__file__).resolve().parents[2]


class DemoRefused(Exception):
    """The demo cannot run like this; `args[0]` says what to do."""


def say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201 (the demo's screen)


def main(environ: Mapping[str, str], *, stay: bool = True) -> int:
    """Exit code: 0 after Ctrl-C or, with `stay` off, after the story; 1 when the story failed; 2 when it cannot run."""
    log_to(sys.stderr, "warning")
    folder = Path(tempfile.mkdtemp(prefix="tollgate-demo-"))
    try:
        with upstreams() as bases:
            return asyncio.run(tell(folder, bases, environ, stay=stay))
    except (DemoRefused, NotStarted, config.ConfigError) as error:
        say(f"demo: {error}")
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settings_for(folder: Path, bases: Mapping[str, str], keys: Path, environ: Mapping[str, str]) -> config.Settings:
    path = ROOT / "config" / "demo.yaml"
    if not path.exists():
        raise DemoRefused("the demo runs from a checkout of the repository: config/demo.yaml is not here")
    overrides = {
        "TOLLGATE__listen": environ.get("TOLLGATE_LISTEN", "127.0.0.1:8080"),
        "TOLLGATE__admin__listen": environ.get("TOLLGATE_ADMIN_LISTEN", "127.0.0.1:8081"),
        "TOLLGATE__admin__token__file": str(folder / "admin.token"),
        "TOLLGATE__data_dir": str(folder / "var"),
        "TOLLGATE__trust__api_keys__file": str(keys),
        "TOLLGATE__policy__bundle": str(ROOT / "policies" / "rego"),
        "TOLLGATE__prices": str(ROOT / "config" / "demo-prices.yaml"),
        "TOLLGATE__upstreams__weather__url": bases["weather"] + "/mcp",
        "TOLLGATE__upstreams__concierge__url": bases["concierge"],
        "TOLLGATE__trust__signers__demo__jwks__url": bases["concierge"] + "/jwks.json",
        "TOLLGATE__upstreams__openai__url": bases["model"],
        "TOLLGATE__upstreams__anthropic__url": bases["model"],
        "TOLLGATE__upstreams__echo__url": bases["model"],
    }
    settings = config.load(path, overrides)
    for address in (settings.listen, settings.admin.listen):
        if not address.loopback:
            raise DemoRefused(f"the demo listens on loopback only, not on {address}: its keys are on the screen")
    return settings


async def tell(folder: Path, bases: Mapping[str, str], environ: Mapping[str, str], *, stay: bool) -> int:
    roles = {"reader": "reader", "payer": "payments", "teller": "reader"}
    minted = {name: mint(name) for name in roles}
    keys = folder / "keys.yaml"
    entries = [
        {"id": name, "sha256": minted[name][1], "subject": name, "type": "agent", "org": "acme", "roles": [role]}
        for name, role in roles.items()
    ]
    keys.write_text(json.dumps(entries))
    keys.chmod(0o600)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, ended.set)
    app = App(settings_for(folder, bases, keys, environ))
    try:
        await app.start()
    except Exception:
        await app.stop(0)
        raise
    try:
        stage = Stage(
            f"http://127.0.0.1:{app.port}",
            minted["reader"][0],
            minted["payer"][0],
            minted["teller"][0],
            folder / "var" / "log",
            app.log.vkey,
            app.log.checkpoint,
        )
        told = asyncio.create_task(_story(stage))
        stopped = asyncio.create_task(ended.wait())
        await asyncio.wait({told, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            told.cancel()
            return 0
        if not told.result():
            return 1
        if stay:
            _invite(app, stage)
            await stopped
        stopped.cancel()
        return 0
    finally:
        say("\nstopping")
        await app.stop(2.0)


async def _story(stage: Stage) -> bool:
    say(f"Tollgate at {stage.url}: every agent, tool and model call goes through this door.\n")
    for number, (title, chapter) in enumerate(CHAPTERS, 1):
        say(f"{number}. {title}")
        try:
            for line in await chapter(stage):
                say(f"   {line}")
        except StoryFailed as error:
            say(f"   FAILED: {error}")
            return False
        say()
    return True


def _invite(app: App, stage: Stage) -> None:
    say("Now you:\n")
    say(f"  console   http://127.0.0.1:{app.admin_port}/login?token={app.access.one_time()}\n")
    for name, line in curl_lines(stage.url, stage.reader).items():
        say(f"  {name:<9} {line}\n")
    say(f"  the log   .venv/bin/tollgate audit tail {stage.log}\n")
    say("Ctrl-C stops everything.")


def curl_lines(url: str, key: str) -> dict[str, str]:
    """Lines to paste into a shell. MCP's stateless era needs no session, so that one line is one call."""

    def tool(name: str, arguments: str) -> str:
        era = '"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}'
        params = f'{{"name":"{name}","arguments":{arguments},"_meta":{{{era}}}}}'
        named = f"-H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: {name}'"
        named += " -H 'Accept: application/json, text/event-stream'"
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
        return f"curl -si {url}/weather {common} {named} -d '{body}'"

    common = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"

    def model(name: str) -> str:
        body = f'{{"model":"{name}","messages":[{{"role":"user","content":"Oslo?"}}],"stream":true}}'
        return f"curl -sN {url}/openai/v1/chat/completions {common} -d '{body}'"

    return {
        "allowed": tool("get_forecast", '{"city":"Oslo"}'),
        "denied": tool("delete_station", '{"station":"1"}'),
        "streamed": model("small-1"),
        "stopped": model(SAGA),
    }
