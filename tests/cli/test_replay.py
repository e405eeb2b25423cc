"""`tollgate replay` over a log's files: what it prints, its exit codes, what it takes to trust the log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.assembly_replay import packed
from gateway.cli.main import run
from gateway.pdp.embedded import EmbeddedEngine
from gateway.pdp.sources import read_folder
from gateway.trust.bundle_build import sign
from tests.recorded import VKEY, decided, write_log
from tests.trust.bundle_rig import KEY

ROOT = Path(__file__).resolve().parent.parent.parent
IN_FORCE = """package tollgate

default decision := {"decision": false, "context": {"rule": "nothing"}}

decision := {"decision": true, "context": {"rule": "reader"}} if {
	"reader" in input.subject.properties.roles
	input.resource.id != "weather/delete_station"
}
"""
STRICTER = IN_FORCE.replace("\tinput.resource.id", "\tinput.context.arguments.days <= 7\n\tinput.resource.id")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 500 decisions, the policy they were made by, and a stricter one."""
    folder = tmp_path_factory.mktemp("replay")
    for name, text in (("own", IN_FORCE), ("stricter", STRICTER)):
        (folder / name).mkdir()
        (folder / name / "policy.rego").write_text(text)
    write_log(folder / "var", decided(EmbeddedEngine(read_folder(folder / "own")), 500, "full"))
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(["replay", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_policy_in_force_flips_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(
        capsys, "--bundle", str(place / "own"), "--data-dir", str(place / "var"), "--key", VKEY, "--json",
        "--max-new-denies", "0", "--max-new-allows", "0", "--max-not-replayable", "0",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["decisions"], found["replayed"], found["unchanged"]) == (500, 500, 500)
    assert found["log"] == {"verified": True, "origin": "gw.example/log", "size": found["log"]["size"]}
    assert found["key_source"] == "--key"


def test_a_flip_beyond_the_limit_is_exit_code_1_and_is_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--bundle", str(place / "stricter"), "--data-dir", str(place / "var"), "--key", VKEY)
    code, out, err = told(capsys, *options, "--max-new-denies", "0")
    assert code == 1
    assert "new denies (--max-new-denies), 0 are allowed" in err
    assert "reader -> nothing" in out
    assert "allow -> deny" in out
    count = json.loads(told(capsys, *options, "--json")[1])["allow_to_deny"]
    assert told(capsys, *options, "--max-new-denies", str(count))[0] == 0
    assert told(capsys, *options, "--max-new-denies", str(count - 1))[0] == 1
    assert told(capsys, *options, "--max-new-allows", "0")[0] == 0


def test_a_bundle_is_a_candidate_like_its_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, by_whom = place / "candidate.tar.gz", place / "signed.tar.gz"
    bundle.write_bytes(packed(place / "stricter"))
    by_whom.write_bytes(sign(bundle.read_bytes(), KEY))
    found = [
        json.loads(told(capsys, "--bundle", str(item), "--data-dir", str(place / "var"), "--key", VKEY, "--json")[1])
        for item in (place / "stricter", bundle, by_whom)
    ]
    assert found[0]["allow_to_deny"] > 0
    assert found[0] | {"seconds": 0} == found[1] | {"seconds": 0} == found[2] | {"seconds": 0}


def test_what_is_no_bundle_is_refused_with_the_rules_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "torn.tar.gz").write_bytes(packed(place / "own")[:-20])
    code, _, err = told(capsys, "--bundle", str(place / "torn.tar.gz"), "--data-dir", str(place / "var"), "--key", VKEY)
    assert code in (2, 4)
    assert "rule 1" in err


def test_a_window_and_a_share_choose_the_same_ones_each_time(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--bundle", str(place / "own"), "--data-dir", str(place / "var"), "--key", VKEY, "--json")
    half = [json.loads(told(capsys, *options, "--sample", "50%")[1])["decisions"] for _ in range(2)]
    assert half[0] == half[1]
    assert 150 < half[0] < 350
    window = ("--since", "2026-11-22T12:00:10Z", "--until", "2026-11-22T13:00:20+01:00")
    assert json.loads(told(capsys, *options, *window)[1])["decisions"] == 50
    assert json.loads(told(capsys, *options, "--until", "36500d")[1])["decisions"] == 0


def test_a_limit_that_nothing_could_be_held_against_does_not_hold(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path, decided(EmbeddedEngine(read_folder(place / "own")), 20, "none"))
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "p.rego").write_text("package tollgate\n\ndecision := input.context.arguments.days <= 7\n")
    options = ("--bundle", str(tmp_path / "blind"), "--data-dir", str(tmp_path), "--key", VKEY)
    code, out, err = told(capsys, *options, "--max-new-denies", "0")
    assert code == 1
    assert "no decision could be replayed" in err
    assert "20  not kept: context.arguments" in out
    assert told(capsys, *options)[0] == 0
    assert told(capsys, *options, "--max-not-replayable", "19")[0] == 1


def test_a_log_that_is_not_what_was_signed_is_exit_code_4(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path, decided(EmbeddedEngine(read_folder(place / "own")), 300, "full"))
    options = ("--bundle", str(place / "own"), "--data-dir", str(tmp_path))
    (log / "vkey").rename(tmp_path / "vkey")
    assert told(capsys, *options)[0] == 4, "there is no key in the directory"
    (tmp_path / "vkey").rename(log / "vkey")
    code, _, err = told(capsys, *options)
    assert code == 0
    assert "proves consistency only" in err
    assert told(capsys, *options, "--require-key")[0] == 4
    other = VKEY[:-6] + ("AAAA==" if VKEY.endswith("==") else "AAAAA=")
    assert told(capsys, *options, "--key", other)[0] in (2, 4)
    bundle = log / "tile" / "entries" / "000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"effect":"deny"', b'"effect":"none"', 1))
    code, out, err = told(capsys, *options, "--key", VKEY)
    assert (code, out) == (4, "")
    assert "the log is not what was signed" in err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--since", "yesterday"),
        ("--since", "2026-11-22T12:00:00"),
        ("--sample", "0%"),
        ("--sample", "half"),
        ("--max-new-denies", "-1"),
    ],
)
def test_a_slip_of_the_pen_is_exit_code_2(
    place: Path, wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "--bundle", str(place / "own"), "--data-dir", str(place / "var"), "--key", VKEY, *wrong)[0] == 2


def test_a_candidate_that_would_not_be_served_is_exit_code_2(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.rego").write_text("package tollgate\n\ndecision := http.send({})\n")
    code, _, err = told(capsys, "--bundle", str(tmp_path), "--data-dir", str(place / "var"), "--key", VKEY)
    assert code == 2
    assert "http.send" in err


@pytest.mark.slow
def test_a_hundred_thousand_decisions_take_less_than_a_minute_and_little_memory(tmp_path: Path) -> None:
    began = time.monotonic()
    engine = EmbeddedEngine(read_folder(ROOT / "policies" / "rego"))
    write_log(tmp_path / "var", decided(engine, 10_000, "full"), times=10)
    written = time.monotonic() - began
    (tmp_path / "vkey").write_text(VKEY)
    # Of the memory that is its own: what the system says of children is the most that any of them ever had.
    code = (
        "import sys; from gateway.cli.main import run; code = run(['replay', *sys.argv[1:]]);"
        "print(*[line for line in open('/proc/self/status') if 'VmHWM' in line], file=sys.stderr); sys.exit(code)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "--bundle", str(ROOT / "policies" / "rego"), "--data-dir", str(tmp_path / "var"),
         "--key", f"@{tmp_path / 'vkey'}", "--json", "--max-new-denies", "0", "--max-new-allows", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    peak_mib = int(done.stderr.rpartition("VmHWM:")[2].split()[0]) / 1024
    print(f"\n100,000 decisions written in {written:.1f} s, replayed in {took:.1f} s, at most {peak_mib:.0f} MiB")
    assert (found["decisions"], found["replayed"], found["unchanged"]) == (100_000, 100_000, 100_000)
    assert "decisions, " in done.stderr, "it says how far it is"
    assert took < 60
    assert peak_mib < 1024
