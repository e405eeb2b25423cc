"""No deadline for a single example: a busy machine is no failure. The foreign verifier, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

SOURCE = Path(__file__).with_name("verify_go")
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "GOTOOLCHAIN": "local"}

settings.register_profile("log", deadline=None)
settings.load_profile("log")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.environ.get("TOLLGATE_NO_GO") == "1":
        pytest.skip("TOLLGATE_NO_GO=1: the log is not verified by a foreign program here")
    assert shutil.which("go"), "install golang-go and golang-golang-x-mod-dev, or set TOLLGATE_NO_GO=1"
    directory = tmp_path_factory.mktemp("go")
    built = subprocess.run(
        ["go", "build", "-o", str(directory / "verify"), str(SOURCE / "main.go")],
        env={**os.environ, **GO, "GOCACHE": str(directory / "cache")},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return directory / "verify"
