"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.cli.rig_cli import Shell, write_log

POLICY = """\
package tollgate

default decision := {"decision": false, "context": {"reason": "nobody said yes", "rule": "default"}}

decision := {"decision": true, "context": {"reason": "readers may read", "rule": "readers"}} if {
    "reader" in input.subject.properties.roles
}
"""

CONFIGURATION = """\
node: gw-1
listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
upstreams:
  files: {url: "http://127.0.0.1:9", protocol: http}
routes:
  - {name: files, match: {path: /files}, upstream: files, auth: anonymous}
"""


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a policy and a configuration, and nothing in the environment."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "decision.rego").write_text(POLICY)
    (tmp_path / "gateway.yaml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    for name in ("TOLLGATE_LOG_VKEY", "TOLLGATE_ADMIN", "TOLLGATE_TOKEN_FILE", "TOLLGATE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def log_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def vkey(folder: Path, log_key: Ed25519PrivateKey) -> str:
    """The key of a log of 300 exchanges (600 records) in `var`."""
    return write_log(folder / "var", log_key, 300)
