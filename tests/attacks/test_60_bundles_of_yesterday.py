"""What was good once is not good again: an older bundle, one out of its time, one sent again after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from rig import gateway

from gateway.core.bundles import BundleRefused, Terms
from tests.flows.pushing import bundle_settings, post, push
from tests.trust.bundle_rig import NOW, files, good, manifest, packed, signed, today, verified

ROW = 60


def within(begins: str = "", ends: str = "", number: int = 7) -> bytes:
    own = {"number": number} | {k: v for k, v in (("not_before", begins), ("expires", ends)) if v}
    return good(number, metadata={"tollgate": own})


CASES: list[tuple[str, Callable[[], bytes], int]] = [
    ("a number below", lambda: good(4), 12),
    ("the number again, with other content", lambda: good(5, revision="r5"), 12),
    ("no number at all", lambda: packed(signed(files(None))), 12),
    ("not yet", lambda: within(today(60)), 13),
    ("no more", lambda: within(ends=today(-1)), 13),
    ("no more, to the second", lambda: within(ends=today()), 13),
    ("a negative number", lambda: good(-1), 10),
    ("a number that is a fraction", lambda: good(7, metadata={"tollgate": {"number": 7.5}}), 10),
    ("a number that is a truth", lambda: good(7, metadata={"tollgate": {"number": True}}), 10),
    ("a window without an offset", lambda: within("2027-01-01T00:00:00"), 10),
    ("a window that ends before it begins", lambda: within(today(60), today(30)), 10),
    ("a promise that nobody knows", lambda: good(7, metadata={"tollgate": {"number": 7, "until": "x"}}), 10),
]


@pytest.mark.parametrize(("make", "rule"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bundle_of_another_time_is_refused_by_its_rule(make: Callable[[], bytes], rule: int) -> None:
    with pytest.raises(BundleRefused) as refused:
        verified(make(), Terms(after=5, now=NOW))
    assert refused.value.rule == rule, refused.value


def test_a_bundle_within_its_time_and_above_the_last_is_taken() -> None:
    assert verified(within(today(-60), today(60)), Terms(after=6, now=NOW)).number == 7
    assert verified(packed(signed(files(None, manifest=manifest(None, revision="8"))))).number == 8


def test_the_highest_number_survives_a_restart_and_a_rollback(tmp_path: Path) -> None:
    settings = bundle_settings(tmp_path)
    with gateway(tmp_path, **settings) as running:
        assert push(running, good(1), activate=True).status_code == 200
        assert push(running, good(3), activate=True).status_code == 200
        assert post(running, "rollback", {}).json()["state"]["highest"] == 3
    with gateway(tmp_path, **settings) as running:
        for number in (2, 3):
            answer = push(running, good(number, revision="again"))
            assert (answer.status_code, answer.json()["rule"]) == (422, 12)
        assert push(running, good(4), activate=True).status_code == 200


def test_a_clock_that_was_turned_back_revives_no_window(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        clock = running.app.policies._clock
        real = clock.time()
        ended = good(2, metadata={"tollgate": {"number": 2, "expires": "2026-01-01T00:00:00Z"}})
        assert push(running, good(1)).status_code == 200
        clock.time = lambda: real - 400 * 86400.0  # type: ignore[method-assign]
        answer = push(running, ended)
        clock.time = lambda: real  # type: ignore[method-assign]
        assert (answer.status_code, answer.json()["rule"]) == (422, 13)


def test_going_back_is_an_act_of_its_own_to_the_number_before(tmp_path: Path) -> None:
    with gateway(tmp_path, **bundle_settings(tmp_path)) as running:
        first = push(running, good(1), activate=True).json()["state"]["active"]
        second = push(running, good(2), activate=True).json()["state"]["active"]
        assert post(running, "activate", {"digest": first}).status_code == 409
        assert post(running, "rollback", {}).json()["state"]["active"] == first
        assert running.last("activation")["activation"]["why"] == "bundle.rollback"
        assert post(running, "rollback", {}).status_code == 404
        assert post(running, "activate", {"digest": second}).json()["state"]["active"] == second


def test_an_expired_bundle_in_force_stays_so_over_a_restart_and_is_not_activated_again(tmp_path: Path) -> None:
    settings = bundle_settings(tmp_path)
    with gateway(tmp_path, **settings) as running:
        real = running.app.clock.time
        short = good(2, metadata={"tollgate": {"number": 2, "expires": "2026-01-02T00:00:00Z"}})
        assert push(running, good(1), activate=True).status_code == 200
        running.app.bundles._database.execute("DELETE FROM states")  # as if it had been earlier
        running.app.policies._clock.time = lambda: 1767222000.0  # type: ignore[method-assign]  # 2025-12-31T23:00:00Z
        assert push(running, short, activate=True).status_code == 200
        running.app.policies._clock.time = real  # type: ignore[method-assign]
    with gateway(tmp_path, **settings) as running:
        url = f"{running.admin_url}/api/v1/bundles/tollgate"
        shown = httpx2.get(url, headers={"authorization": f"Bearer {running.admin_token}"}).json()
        assert shown["active"]["number"] == 2
        answer = post(running, "activate", {"digest": shown["active"]["digest"]})
        assert (answer.status_code, answer.json()["rule"]) == (422, 13)
