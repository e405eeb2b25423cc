"""Makes `rig` importable for every test, and names the components a run had to do without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def bases() -> Iterator[dict[str, str]]:
    """Base URLs of the demo's upstreams, started once: they keep no state that one test could leave to another."""
    from gateway.demo.started import upstreams

    with upstreams() as found:
        yield found
