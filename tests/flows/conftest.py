"""Fixtures of the flows: the command line, run in this process."""

from __future__ import annotations

import pytest

from tests.cli.rig_cli import Shell


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
