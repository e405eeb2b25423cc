"""What holds for every command: help with examples, --json, exit codes, errors that say what to do."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gateway import __version__
from gateway.cli.main import cli, explained
from gateway.cli.output import Stop, printable, table
from gateway.config import ConfigError
from gateway.log.disk import DataDirLocked
from tests.cli.rig_cli import Shell


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name), found


def test_the_version_and_the_help_are_data(shell: Shell) -> None:
    assert shell("--version").out == f"tollgate {__version__}\n"
    for words in (["--help"], ["-h"]):
        found = shell(*words)
        assert found.code == 0
        assert "Examples:" in found.out
        assert "Exit codes: 0 ok" in found.out


@pytest.mark.parametrize("path", [path for path, _ in commands(cli)], ids=" ".join)
def test_every_command_takes_json_and_shows_examples(path: tuple[str, ...], shell: Shell) -> None:
    found = shell(*path, "--help")
    assert found.code == 0
    assert "--json" in found.out
    group = shell(path[0], "--help").out
    assert "Example" in group or "How to install" in group


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["check", "--frobnicate"], ["audit"], ["audit", "verify"], ["decide"]]
)
def test_a_wrong_command_line_is_2(shell: Shell, words: list[str]) -> None:
    found = shell(*words)
    assert found.code == 2
    assert found.out == ""
    assert found.err != ""


def test_errors_that_somebody_can_do_something_about_are_explained() -> None:
    assert explained(Stop("say it", 3)) == ("say it", 3)
    assert explained(DataDirLocked("var is in use")) == ("var is in use", 1)
    assert explained(ConfigError([])) == ("", 2)
    taken = explained(OSError(errno.EADDRINUSE, "Address already in use"))
    assert taken is not None
    assert "another program listens there" in taken[0]
    full = explained(OSError(errno.ENOSPC, "No space left on device", "var/journal/0"))
    assert full is not None
    assert full[0].startswith("var/journal/0: No space left on device; the disk is full: make room")
    assert explained(ValueError("a fault of ours")) is None
    assert explained(RuntimeError("a fault of ours")) is None


def test_an_error_with_json_is_json_on_stderr(shell: Shell, folder: Path) -> None:
    found = shell("audit", "verify", "nowhere", "--json")
    assert (found.code, found.out) == (4, "")
    assert found.err.startswith('{"error": "nowhere is no log')


def test_a_fault_of_ours_is_not_dressed_up(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("gateway.config.load", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        shell("check", "gateway.yaml")


def test_what_records_hold_cannot_move_the_terminal() -> None:
    shown = printable("a\x1b[31mb\u202ec\rd\ne")
    assert shown == "a\\x1b[31mb\\u202ec\\rd\ne"


def test_a_table_is_as_wide_as_it_needs_to_be() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == "a    bb  c\naaa  b"
    assert table([]) == ""


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: Shell, name: str) -> None:
    found = shell("completion", name)
    assert found.code == 0
    assert "_TOLLGATE_COMPLETE" in found.out
    assert shell("completion", "cmd").code == 2


def test_the_console_script_completes_commands() -> None:
    program = "import sys; sys.argv[0] = 'tollgate'; from gateway.cli.main import main; main()"
    environ = {
        "_TOLLGATE_COMPLETE": "bash_complete",
        "COMP_WORDS": "tollgate aud",
        "COMP_CWORD": "1",
        "PATH": "/usr/bin",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert "audit" in done.stdout


def test_a_reader_that_leaves_early_ends_it_quietly(folder: Path, vkey: str) -> None:
    program = "import sys; from gateway.cli.main import main; main()"
    command = [sys.executable, "-c", program, "audit", "export", "var"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_looking_at_the_help_does_not_load_the_data_plane() -> None:
    program = (
        "import sys; from gateway.cli.main import run; run(['--version']); print('gateway.wire.asgi' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "False"
