"""A server that answers as the published API of HashiCorp Vault and OpenBao says (KV version 2, transit), over TLS.

It is not Vault: there is no package of either to run here. What is proved with it is that our side asks and reads what
the documentation describes, not that any version of the real servers behaves so.
Sources: developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2 and .../secret/transit; the form of an Ed25519 public
key (32 bytes in standard base64) and of a signature (`vault:v<version>:<base64>`) from OpenBao's transit engine.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.wire.certificates import Authority

TOKEN = "hvs.CAESIJ-made-up-for-tests"


class Shape:
    """`secrets[path]` are the fields of a secret; `keys[name]` the versions of a transit key, oldest first. `instead`
    answers a request in place of all else: a status and a body."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any] | None] = {}
        self.keys: dict[str, list[Ed25519PrivateKey]] = {}
        self.kind = "ed25519"
        self.asked: list[tuple[str, str, str, Any]] = []  # method, path, namespace, body
        self.instead: Callable[[str, str], tuple[int, bytes, dict[str, str]] | None] = lambda method, path: None
        self.port = 0
        self.ca = Path()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        kind, _, name = path.removeprefix("/v1/").partition("/")
        if kind == "secret" and name.startswith("data/") and method == "GET":
            return self._secret(name.removeprefix("data/"))
        if kind == "transit":
            return self._transit(method, name, body)
        return 404, {"errors": []}

    def _secret(self, path: str) -> tuple[int, Any]:
        if path not in self.secrets:
            return 404, {"errors": []}
        metadata = {
            "created_time": "2026-03-22T02:24:06.945319214Z",
            "deletion_time": "",
            "destroyed": False,
            "version": 2,
        }
        found = self.secrets[path]
        if found is None:  # the newest version was deleted
            metadata["deletion_time"] = "2026-03-23T02:24:06.945319214Z"
            return 404, {"request_id": "x", "data": {"data": None, "metadata": metadata}}
        return 200, {"request_id": "x", "data": {"data": found, "metadata": metadata}}

    def _transit(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        if name.startswith("keys/") and name.endswith("/rotate"):
            self.keys[name.removeprefix("keys/").removesuffix("/rotate")].append(Ed25519PrivateKey.generate())
            return 204, None
        if name.startswith("keys/") and method == "POST":
            self.keys.setdefault(name.removeprefix("keys/"), [Ed25519PrivateKey.generate()])
            return 204, None
        if name.startswith("keys/"):
            found = self.keys.get(name.removeprefix("keys/"))
            if found is None:
                return 404, {"errors": []}
            made = {"creation_time": "2026-03-22T02:24:06Z", "name": "ed25519"}
            versions = {str(number): {**made, "public_key": public(key)} for number, key in enumerate(found, 1)}
            return 200, {"data": {"type": self.kind, "latest_version": len(found), "keys": versions}}
        key = self.keys[name.removeprefix("sign/")][body["key_version"] - 1]
        signature = base64.b64encode(key.sign(base64.b64decode(body["input"]))).decode()
        return 200, {"data": {"signature": f"vault:v{body['key_version']}:{signature}"}}


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@contextmanager
def vault_shape(folder: Path) -> Iterator[Shape]:
    shape = Shape()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(data) if data else None
            path = self.path.partition("?")[0]
            shape.asked.append((self.command, path, self.headers.get("X-Vault-Namespace", ""), body))
            instead = shape.instead(self.command, path)
            if instead is not None:
                status, text, headers = instead
            else:
                status, document = shape.answer(self.command, path, self.headers.get("X-Vault-Token", ""), body)
                text, headers = b"" if document is None else json.dumps(document).encode(), {}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _do

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    authority = Authority(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context: ssl.SSLContext = authority.server("localhost")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    shape.port, shape.ca = server.server_address[1], authority.ca
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield shape
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
