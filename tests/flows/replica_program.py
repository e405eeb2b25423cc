"""The program of one replica (replicas.py): `replica_program.py NAME PORT`."""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JUNK = {
    "junk": b"HTTP/1.1 two hundred\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "heads": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "silence": b"",
}
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf of"


class Replica:
    """What it is told and what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: dict[str, Any] = {"mode": "well", "asked": 0, "health": 0, "methods": {}}
        self.lock = threading.Lock()
        self.free = threading.Event()
        self.done = threading.Event()

    def count(self, method: str) -> int:
        with self.lock:
            self.state["asked"] += 1
            self.state["methods"][method] = self.state["methods"].get(method, 0) + 1
            return int(self.state["asked"])


def playing(replica: Replica) -> type[BaseHTTPRequestHandler]:
    class Play(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, said: Any, *headers: tuple[str, str]) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for key, value in headers:
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def end(self) -> None:
            self.close_connection = True
            self.connection.close()

        def play(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0]
            state = replica.state
            if path == "/told":
                self.answer(200, state)
            elif path == "/mode":
                state["mode"] = body.decode()
                if state["mode"] == "done":
                    replica.done.set()
                if state["mode"] == "hang":
                    replica.free.clear()
                else:
                    replica.free.set()
                self.answer(200, {})
            elif path == "/healthz":
                with replica.lock:
                    state["health"] += 1
                self.answer(500 if state["mode"] == "sick" else 200, {})
            else:
                self.called(path, body, replica.count(self.command))

        def called(self, path: str, body: bytes, asked: int) -> None:
            mode = replica.state["mode"]
            if mode == "hang":
                replica.free.wait(60)
            if mode == "drop" or (mode == "drop-once" and asked == 1):
                self.end()
                return
            if mode == "cut" or mode in JUNK:
                self.wfile.write(JUNK.get(mode, HALF))
                self.end()
                return
            if path == "/stream":
                self.wfile.write(BEGUN)
                replica.done.wait(60)
                self.end()
                return
            said: dict[str, Any] = {"who": replica.name, "asked": asked, "host": self.headers["host"]}
            if mode == "later":
                self.answer(503, said, ("Retry-After", "30"))
            elif mode.isdigit():
                self.answer(int(mode), said)
            elif path == "/mcp" and body:
                self.tool(json.loads(body), said)
            else:
                self.answer(200, said)

        def tool(self, asks: dict[str, Any], said: dict[str, Any]) -> None:
            if asks["method"] == "initialize":
                server = {"name": replica.name, "version": "1"}
                able: Any = {"tools": {}}
                result: Any = {"protocolVersion": "2025-06-18", "capabilities": able, "serverInfo": server}
                session = ("Mcp-Session-Id", f"{replica.name}-{os.urandom(8).hex()}")
                self.answer(200, {"jsonrpc": "2.0", "id": asks["id"], "result": result}, session)
                return
            if asks["method"] == "tools/list":
                tool = {"name": "who", "inputSchema": {"type": "object"}}
                self.answer(200, {"jsonrpc": "2.0", "id": asks["id"], "result": {"tools": [tool]}})
                return
            if asks["method"] == "server/discover":
                error = {"code": -32601, "message": "not known"}
                self.answer(200, {"jsonrpc": "2.0", "id": asks["id"], "error": error})
                return
            if "id" not in asks:
                self.answer(202, {})
                return
            said["session"] = self.headers.get("mcp-session-id")
            result = {"content": [{"type": "text", "text": json.dumps(said)}]}
            self.answer(200, {"jsonrpc": "2.0", "id": asks["id"], "result": result})

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = play

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    return Play


class Listener(ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    Listener(("127.0.0.1", int(sys.argv[2])), playing(Replica(sys.argv[1]))).serve_forever()
