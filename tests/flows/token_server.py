"""A small authorization server in a thread: real keys, real signatures, client credentials and token exchange.

It believes a subject's token only if the rig's issuer signed it for the gateway, as a real one would, and says in `act`
who acted. `forms` is what it was asked; `fails` is what it says instead of a token.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SECRET = "canary-client-secret-7c1e"


@dataclass
class TokenServer:
    port: int = 0
    subjects: OKPKey | None = None  # the key of the issuer whose tokens may be exchanged
    key: OKPKey = field(default_factory=lambda: OKPKey.generate_key("Ed25519", {"kid": "as"}))
    forms: list[dict[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    fails: tuple[int, dict[str, Any]] | None = None
    expires_in: int = 600

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def claims(self, token: str) -> dict[str, Any]:
        """Of a token that this server signed."""
        return dict(jwt.decode(token, self.key, algorithms=["Ed25519"]).claims)

    def answer(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.forms.append(form)
        if self.fails is not None:
            return self.fails
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if authorization:
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            given = (unquote_plus(pair[0]), unquote_plus(pair[2]))
        if given != ("tollgate", SECRET):
            return 401, {"error": "invalid_client"}
        claims: dict[str, Any] = {"sub": "tollgate"}
        if form["grant_type"] == EXCHANGE:
            try:
                assert self.subjects is not None
                claims = {"sub": jwt.decode(form["subject_token"], self.subjects, algorithms=["Ed25519"]).claims["sub"]}
                if "actor_token" in form:
                    claims["act"] = {"sub": self.claims(form["actor_token"])["sub"]}
            except JoseError:
                return 400, {"error": "invalid_grant", "error_description": f"no: {form['subject_token']}"}
        elif form["grant_type"] != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        now = int(time.time())
        claims |= {"iss": self.url, "aud": form.get("audience") or form.get("resource") or "any", "iat": now}
        claims |= {"exp": now + self.expires_in, "scope": form.get("scope", ""), "jti": str(len(self.tokens))}
        token = jwt.encode({"alg": "Ed25519", "kid": "as"}, claims, self.key, algorithms=["Ed25519"])
        self.tokens.append(token)
        said = {"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in}
        return 200, said | ({"issued_token_type": ACCESS_TOKEN} if form["grant_type"] == EXCHANGE else {})


@contextmanager
def token_server(subjects: OKPKey | None = None) -> Iterator[TokenServer]:
    found = TokenServer(subjects=subjects)

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: value for name, [value] in parse_qs(body, strict_parsing=True).items()}
            status, said = found.answer(form, self.headers.get("authorization", ""))
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *said: Any) -> None:
            """The test's output is its own."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
