"""A change that the workers do not build as their owner does is no change, and stands in nobody's way afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from rig import run

from gateway import config
from gateway.app import App
from gateway.assembly_crew import WorkerFailed
from gateway.assembly_workers import Change
from tests.flows.crews import calls, configure
from tests.flows.ledgers import ledgers


def test_a_snapshot_of_another_revision_is_in_force_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def story(port: int) -> None:
        configure(tmp_path, port)
        settings = await asyncio.to_thread(config.load, tmp_path / "gateway.yaml", {})
        app = App(settings, workers=2)
        try:
            await app.start()
            assert app.crew is not None
            closed = replace(settings, routes=())
            sources = app.policies_read.in_force
            for _ in range(2):
                with pytest.raises(WorkerFailed, match="not sha256:other"):
                    await app.crew.prepare(Change("reload", closed, sources, "sha256:other"))
            assert set(await calls(app.port, 12, 1)) == {200}, "what was prepared does not count"
            with pytest.raises(WorkerFailed, match="was not given to this worker"):
                await app.crew.prepare(Change("reload", closed, {}, "sha256:other"))
            await app.reload(closed)
            assert set(await calls(app.port, 12, 1)) == {404}
        finally:
            await app.stop(5)

    with ledgers(0, 0) as (upstream, _):
        run(story(upstream.port))
