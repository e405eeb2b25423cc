"""The gateway as it is measured: everything on. Signed tokens, the shipped policy, two limits, the durable intent."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import OKPKey

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
node: bench
listen: 127.0.0.1:{port}
data_dir: {work}/var
admin: {{listen: "127.0.0.1:{admin}", token: {{file: {work}/admin.token}}}}
telemetry: {{level: warning}}
trust:
  issuers:
    - {{name: bench, issuer: "https://bench.example", audience: tollgate, algorithms: [EdDSA],
       jwks: {{file: {work}/jwks.json}}}}
policy: {{bundle: {root}/policies/rego}}
upstreams:
  weather: {{url: "http://127.0.0.1:{upstream}/mcp", protocol: mcp}}
  model: {{url: "http://127.0.0.1:{upstream}", protocol: openai}}
  echo: {{url: "http://127.0.0.1:{upstream}", protocol: http}}
routes:
  - {{name: weather, match: {{path: /weather}}, upstream: weather}}
  - {{name: model, match: {{path: /model}}, upstream: model}}
  - {{name: echo, match: {{path: /echo}}, upstream: echo}}
limits:
  - {{name: per-agent, key: [subject.id, route], rate: 100000000/minute, burst: 1000000}}
  - {{name: at-once, key: [subject.id], concurrent: 5000}}
"""


def _compiled() -> bool:
    """Whether the gateway that is measured is the native build (setup.py)."""
    found = importlib.util.find_spec("gateway.core.exchange")
    return found is not None and found.origin is not None and not found.origin.endswith(".py")


class Gate:
    """Writes configuration, key and token below `work`. `on` says what the result was measured with."""

    def __init__(self, work: Path, upstream: int, port: int, admin: int, config: str = CONFIG) -> None:
        key = OKPKey.generate_key("Ed25519", {"kid": "bench", "use": "sig", "alg": "EdDSA"})
        (work / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        now = int(time.time())
        claims = {
            "iss": "https://bench.example", "aud": "tollgate", "sub": "agent-1", "client_id": "planner",
            "org": "acme", "roles": ["reader"], "iat": now, "exp": now + 7200,
        }  # fmt: skip
        self.token = jwt.encode({"alg": "EdDSA", "kid": "bench", "typ": "JWT"}, claims, key, algorithms=["EdDSA"])
        text = config.format(port=port, admin=admin, work=work, root=ROOT, upstream=upstream)
        (work / "gateway.yaml").write_text(text)
        self.port = port
        self.command = [str(Path(sys.executable).parent / "tollgate"), "serve", "--config", str(work / "gateway.yaml")]
        self.env: dict[str, str] = {}
        self.call, self.stream, self.ws = "/weather", "/model/v1/chat/completions", "/echo/ws"
        self.on = {
            "workers": 1,
            "compiled": _compiled(),
            "identity": "EdDSA token, cached by digest",
            "policy": "policies/rego in the embedded engine",
            "limits": 2,
            "audit": "strict: the intent is on disk before forwarding",
            "checkpoint": "1000 records or 1 s",
        }
