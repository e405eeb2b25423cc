"""The log changes its key: who knows either key verifies it, no record waits, and every crash is recovered from."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.log.note import LogKeys, Note, VerifierKey
from gateway.log.tiles import LogDamaged
from gateway.log.verify import directory_keys, verify
from tests.log.log_rig import KEY, NODE, FaultyDisk, eventually, exchanges, record, run, sequencer, written

NEW, THIRD = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (7, 8))
OLD_VKEY, NEW_VKEY, THIRD_VKEY = (str(VerifierKey.of(NODE, key)) for key in (KEY, NEW, THIRD))
OVERLAP = LogKeys((NEW, KEY), (NEW_VKEY, OLD_VKEY))
AFTER = LogKeys((NEW,), (NEW_VKEY, OLD_VKEY))


def signers(data_dir: Path) -> int:
    return len(Note.parse((data_dir / "log" / "checkpoint").read_bytes()).signatures)


def test_a_new_key_signs_at_once_and_the_former_beside_it(tmp_path: Path) -> None:
    async def story() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 3)
        await eventually(lambda: log.size == 6)
        await log.checkpoint()
        size = log.published.size
        await log.rekey(OVERLAP)
        assert (log.published.size, log.vkey) == (size, NEW_VKEY), "nothing new, yet signed anew"
        for vkey in (OLD_VKEY, NEW_VKEY):
            assert verify(tmp_path / "log", [vkey]).ok
        await exchanges(log, 3)
        await log.rekey(AFTER)
        await log.close()

    run(story)
    assert signers(tmp_path) == 1
    assert verify(tmp_path / "log", [NEW_VKEY]).ok
    assert not verify(tmp_path / "log", [OLD_VKEY]).ok
    assert directory_keys(tmp_path / "log") == [NEW_VKEY, OLD_VKEY]


def test_what_was_signed_by_the_former_key_is_proved_to_have_grown(tmp_path: Path) -> None:
    written(tmp_path, 5)
    since = (tmp_path / "log" / "checkpoint").read_bytes()

    async def story() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        await log.rekey(AFTER)
        await exchanges(log, 5)
        await log.close()

    run(story)
    assert verify(tmp_path / "log", directory_keys(tmp_path / "log"), since=since).since == 10
    assert not verify(tmp_path / "log", [NEW_VKEY], since=since).ok


def test_under_load_no_record_is_refused_or_lost(tmp_path: Path) -> None:
    async def story() -> int:
        log = sequencer(tmp_path, checkpoint_records=50, checkpoint_seconds=0.05)
        log.start(asyncio.get_running_loop())
        done = asyncio.Event()

        async def caller() -> int:
            count = 0
            while not done.is_set():
                count += len(await exchanges(log, 5))
            return count

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        for keys in (OVERLAP, AFTER, LogKeys((THIRD, NEW), (THIRD_VKEY, NEW_VKEY, OLD_VKEY))):
            begun = log.size
            await eventually(lambda begun=begun: log.size > begun + 200)  # type: ignore[misc]
            await log.rekey(keys)
            assert verify(tmp_path / "log", directory_keys(tmp_path / "log")).ok
        done.set()
        total = sum(await asyncio.gather(*callers))
        await log.close()
        return total

    total = run(story)
    report = verify(tmp_path / "log", [THIRD_VKEY])
    assert (report.ok, report.size, report.kinds) == (True, 2 * total, {"intent": total, "outcome": total})


def test_a_disk_that_refuses_the_new_checkpoint_gets_it_later(tmp_path: Path) -> None:
    disk = FaultyDisk()

    async def story() -> None:
        log = sequencer(tmp_path, disk=disk, checkpoint_seconds=0.05)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 2)
        await log.checkpoint()
        disk.broken = {"replace"}
        with pytest.raises(Exception, match="cannot be written"):
            await log.rekey(OVERLAP)
        assert signers(tmp_path) == 1
        disk.broken = set()
        await eventually(lambda: signers(tmp_path) == 2)
        await log.close()

    run(story)
    assert verify(tmp_path / "log", [NEW_VKEY]).ok


@pytest.mark.parametrize("point", ["checkpoint.before_write", "checkpoint.after_write", "checkpoint.after_sync"])
def test_a_crash_in_the_middle_leaves_a_log_that_either_start_accepts(tmp_path: Path, point: str) -> None:
    class Died(BaseException):
        """Not an Exception: nothing catches it on its way."""

    reached: list[Path] = []

    def crash(name: str) -> None:
        if armed and name == point and not reached:
            reached.append(tmp_path / "crashed")
            shutil.copytree(tmp_path / "data", reached[0])  # what a power cut would have left

    armed = False

    async def story() -> None:
        nonlocal armed
        log = sequencer(tmp_path / "data", crash_point=crash)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 3)
        await log.checkpoint()
        armed = True
        await log.rekey(OVERLAP)
        await log.close()

    run(story)
    assert reached
    folder = reached[0]
    assert verify(folder / "log", directory_keys(folder / "log")).ok
    log = sequencer(folder, key=OVERLAP)
    run(log.close)
    assert directory_keys(folder / "log") == [NEW_VKEY, OLD_VKEY]
    for vkey in (OLD_VKEY, NEW_VKEY):
        assert verify(folder / "log", [vkey]).ok


def test_a_revoked_key_opens_the_directory_once_and_is_told_to_nobody(tmp_path: Path) -> None:
    """It was revoked while nobody served: the directory is still signed by it."""
    written(tmp_path, 3)
    with pytest.raises(LogDamaged):
        sequencer(tmp_path, key=LogKeys((NEW,), (NEW_VKEY,)))
    run(sequencer(tmp_path, key=LogKeys((NEW,), (NEW_VKEY,), (OLD_VKEY,))).close)
    assert directory_keys(tmp_path / "log") == [NEW_VKEY]
    assert not verify(tmp_path / "log", [OLD_VKEY]).ok
    run(sequencer(tmp_path, key=LogKeys((NEW,), (NEW_VKEY,))).close)


def test_a_key_out_of_reach_holds_up_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    class Far:
        """A key in a vault that comes back."""

        away = True

        def sign(self, data: bytes) -> bytes:
            if self.away:
                raise OSError("the vault does not answer")
            return NEW.sign(data)

        def public_key(self) -> Ed25519PublicKey:
            return NEW.public_key()

    far = Far()

    async def story() -> None:
        log = sequencer(tmp_path, checkpoint_seconds=0.05)
        log.start(asyncio.get_running_loop())
        with pytest.raises(Exception, match="cannot be written"):
            await log.rekey(LogKeys((far, KEY), (NEW_VKEY, OLD_VKEY)))
        await log.sequenced(log.submit(record("refusal", "x")))
        assert log.healthy
        far.away = False
        await eventually(lambda: log.pending == 0 and signers(tmp_path) == 2)
        await log.close()

    run(story)
    assert verify(tmp_path / "log", [NEW_VKEY]).ok


@pytest.mark.slow
def test_go_verifies_the_log_with_either_key(tmp_path: Path, program: Path) -> None:
    async def story() -> None:
        log = sequencer(tmp_path)
        log.start(asyncio.get_running_loop())
        await exchanges(log, 300)
        await log.rekey(OVERLAP)
        await exchanges(log, 300)
        await log.close()

    run(story)
    for vkey in (OLD_VKEY, NEW_VKEY):
        done = subprocess.run([str(program), "log", str(tmp_path / "log"), vkey], capture_output=True, text=True)
        assert done.stdout.strip() == "ok 1200 entries, grown from 0", done.stderr
    done = subprocess.run([str(program), "log", str(tmp_path / "log"), THIRD_VKEY], capture_output=True, text=True)
    assert done.returncode != 0
