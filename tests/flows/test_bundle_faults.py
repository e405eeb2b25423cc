"""An activation that fails half-way leaves the policy that was in force, and says so."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from rig import gateway, until

from gateway.core.reasons import StoreFailed
from gateway.log.disk import RealDisk
from tests.flows.pushing import bundle_settings, post, push
from tests.trust.bundle_rig import good


def test_an_activation_without_its_record_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        digest = push(running, good(1)).json()["pushed"]["digest"]
        before = running.app.snapshot

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(RealDisk, "append", full)
            assert post(running, "activate", {"digest": digest}).status_code == 503
        assert running.app.snapshot is before
        assert running.app.bundles.state("tollgate").active == ""
        until(lambda: post(running, "activate", {"digest": digest}).status_code == 200)


def test_an_activation_that_the_store_does_not_keep_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        digest = push(running, good(1)).json()["pushed"]["digest"]
        before = running.app.snapshot
        running.app.bundles._database.execute("PRAGMA query_only = ON")
        assert post(running, "activate", {"digest": digest}).status_code == 503
        assert running.app.snapshot is before
        found = running.last("activation")["activation"]
        assert found["effect"] == "refused"
        running.app.bundles._database.execute("PRAGMA query_only = OFF")
        assert post(running, "activate", {"digest": digest}).status_code == 200


def test_a_bundle_that_the_disk_spoiled_is_not_activated(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        digest = push(running, good(1)).json()["pushed"]["digest"]
        running.app.bundles._database.execute("UPDATE blobs SET tarball = ?", (good(2),))
        assert post(running, "activate", {"digest": digest}).status_code == 503
        assert running.app.bundles.state("tollgate").active == ""


def test_a_store_that_was_tampered_with_refuses_the_start(tmp_path: Path) -> None:
    settings = bundle_settings(tmp_path)
    with gateway(tmp_path, **settings) as running:
        assert push(running, good(1), activate=True).status_code == 200
    database = sqlite3.connect(tmp_path / "var" / "bundles.sqlite")
    database.execute("UPDATE states SET active = ''")
    database.commit()
    database.close()
    with pytest.raises(StoreFailed), gateway(tmp_path, **settings):
        pass
