"""`tollgate`: the command line. One file per noun beside this one; here they meet, and errors become exit codes.

The rule: an error a person can do something about is one message on stderr that says what and what to do, never a
stack trace. What is not known here is a fault of ours and shows itself.
"""

from __future__ import annotations

import errno
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Final

import click

from gateway import __version__
from gateway.cli.output import FAILED, OK, UNVERIFIED, USAGE, Stop, message

_COMMANDS: Final = {
    "serve": "gateway.cli.serve",
    "demo": "gateway.cli.demo",
    "check": "gateway.cli.check",
    "decide": "gateway.cli.decide",
    "explain": "gateway.cli.explain",
    "replay": "gateway.cli.replay",
    "audit": "gateway.cli.audit",
    "card": "gateway.cli.card",
    "keys": "gateway.cli.keys",
    "agents": "gateway.cli.agents",
    "budgets": "gateway.cli.budgets",
    "usage": "gateway.cli.usage",
    "upstreams": "gateway.cli.upstreams",
    "shadow": "gateway.cli.shadow",
    "bundle": "gateway.cli.bundle",
    "doctor": "gateway.cli.doctor",
    "completion": "gateway.cli.completion",
}
"""Each module's `command`. They are imported when they are used: `tollgate check` need not load the data plane."""

# Exceptions by name, so that naming them imports nothing. Their text says what is wrong and what to do.
_KNOWN: Final = {
    "ConfigError": USAGE,
    "NeedsRestart": USAGE,
    "PolicyRefused": USAGE,
    "ApiKeyError": USAGE,
    "TokenRefused": USAGE,
    "CannotTell": USAGE,
    "OriginMismatch": USAGE,
    "DemoRefused": USAGE,
    "KeyRingError": FAILED,
    "StoreFailed": FAILED,
    "BundleRefused": UNVERIFIED,
    "DataDirLocked": FAILED,
    "CannotListen": FAILED,
    "WorkerFailed": FAILED,
    "QueryFailed": FAILED,
    "LogUnavailable": FAILED,
    "LogDamaged": UNVERIFIED,
    "JournalDamaged": UNVERIFIED,
    "Wrong": UNVERIFIED,
}
_ADVICE: Final = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EACCES: "this user may not: change the permissions, or run as the user that owns it",
    errno.EPERM: "this user may not: change the permissions, or run as the user that owns it",
    errno.ENOENT: "there is no such file: check the name; paths are relative to the working directory",
    errno.ENOSPC: "the disk is full: make room; nothing that was acknowledged is lost",
    errno.EDQUOT: "the quota is used up: make room; nothing that was acknowledged is lost",
    errno.EROFS: "the file system is read-only: name a data_dir that can be written",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}

_EPILOG = """\b
Examples:
  tollgate demo                              everything at once, on this machine
  tollgate check --example > gateway.yaml    a configuration to start from
  tollgate check gateway.yaml
  tollgate serve --config gateway.yaml
  tollgate explain 01990c2e-...              what happened to one request
  tollgate audit verify var                  is the log what it was

\b
Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 denied, 4 cannot be verified.
"""


class _Lazy(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[name]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{_COMMANDS[name]}.command is no command")
        return command


@click.group(
    cls=_Lazy,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="tollgate", message="%(prog)s %(version)s")
def cli() -> None:
    """The policy gateway for agent traffic: one door in front of every agent, tool and model endpoint."""


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit code."""
    with _Explained("--json" in arguments) as outcome:
        code = cli.main(list(arguments), prog_name="tollgate", standalone_mode=False)
        outcome.code = code if isinstance(code, int) else OK
    return outcome.code


class _Explained:
    """Turns an error that a person can do something about into a message and an exit code; lets ours pass."""

    def __init__(self, as_json: bool) -> None:
        self.code = FAILED
        self._as_json = as_json

    def __enter__(self) -> _Explained:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, click.exceptions.Exit):
            self.code = error.exit_code
        elif isinstance(error, click.ClickException):
            error.show()
            self.code = error.exit_code
        elif isinstance(error, click.Abort | KeyboardInterrupt):
            self.code = FAILED
        else:
            found = explained(error) if isinstance(error, Exception) else None
            if found is None:
                return False
            text, self.code = found
            message(json.dumps({"error": text, "exit": self.code}) if self._as_json else f"tollgate: {text}")
        return True


def explained(error: Exception) -> tuple[str, int] | None:
    """What to say about an error, and the exit code; None for one that is a fault of ours."""
    if isinstance(error, Stop):
        return str(error), error.code
    for kind in type(error).__mro__:
        if kind.__module__.startswith("gateway.") and kind.__name__ in _KNOWN:
            return str(error), _KNOWN[kind.__name__]
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        advice = _ADVICE.get(error.errno)
        return f"{where}{error.strerror}" + (f"; {advice}" if advice else ""), FAILED
    return None


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
