"""`tollgate serve`: the gateway in the foreground, until SIGTERM or Ctrl-C.

1. SIGHUP, or a change of the configuration file or of the policy's files that has settled, reads the configuration
again; what cannot be used changes nothing, is logged with its reasons and leaves a record. 2. SIGTERM or SIGINT drains
for at most `drain`; a second one ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click

from gateway import __version__, config
from gateway.app import App
from gateway.assembly_keys import open_vault
from gateway.cli.main import explained
from gateway.cli.output import OK, data, json_option
from gateway.core.canonical import Json
from gateway.telemetry import log_to

COLLECT = (10_000, 20, 20)  # new objects before the youngest are looked at; then every 20th look goes further
LOOK_SECONDS = 1.0  # how often the files are looked at; a change counts when two looks agree

Looks: TypeAlias = tuple[tuple[str, int, int, int], ...]

_log = logging.getLogger("tollgate")

_EPILOG = """\b
Examples:
  tollgate check gateway.yaml && tollgate serve --config gateway.yaml
  TOLLGATE__listen=127.0.0.1:9080 tollgate serve --config gateway.yaml
  kill -HUP <pid>      reads the configuration again; a bad one changes nothing and says why
  kill -TERM <pid>     finishes what is open, at most `drain` long, and ends
"""


@click.command("serve", epilog=_EPILOG)
@click.option(
    "--config",
    "file",
    envvar="TOLLGATE_CONFIG",
    required=True,
    type=click.Path(path_type=Path),
    help="The configuration (or TOLLGATE_CONFIG).",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1, max=64),
    help="Processes that serve callers; more than one: beside the one that owns log and counters.",
)
@json_option
def command(file: Path, workers: int, as_json: bool) -> int:
    """Serve the gateway that a configuration describes."""
    settings = config.load(file, os.environ, vault=open_vault)
    serving = Serving(file, settings, as_json, workers)
    log_to(sys.stderr, settings.telemetry.level, serving.secrets)
    return run_loop(serving.run())


def settle_memory() -> None:
    """What is there now stays: the collector of cycles looks at it no more, and at new objects less often. Nothing that
    a request makes is a cycle, and a look at everything would hold each of them up for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def run_loop(job: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop  # not on every platform; asyncio's own loop is a twentieth slower
    except ImportError:
        return asyncio.run(job)
    return uvloop.run(job)


def secrets_of(settings: config.Settings) -> Iterator[str]:
    """Values that must not get into a log line."""
    for upstream in settings.upstreams.values():
        if upstream.credentials is not None:
            yield from (secret.reveal() for secret in upstream.credentials.secrets() if secret.known)
    passphrase = settings.keys.passphrase
    if passphrase is not None and passphrase.known:
        yield passphrase.reveal()
    if settings.admin.token.known:
        yield settings.admin.token.reveal()


class Serving:
    """One gateway's life in the foreground."""

    def __init__(self, file: Path, settings: config.Settings, as_json: bool, workers: int = 1) -> None:
        self._workers = workers
        self._file = file
        self._settings = settings
        self._as_json = as_json
        self._wake = asyncio.Event()
        self._signals: list[signal.Signals] = []
        self._read: Looks = ()  # what the files looked like when they were last read

    def secrets(self) -> Iterator[str]:
        return secrets_of(self._settings)

    async def run(self) -> int:
        app = App(self._settings, workers=self._workers)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number)
        serves = False
        try:
            await app.start()
            serves = True
        finally:
            if not serves:
                await app.stop(0.0)
        settle_memory()
        self._announce(app)
        watch = asyncio.create_task(self._watch(app), name="configuration")
        await self._until_told(app)
        watch.cancel()
        await self._drain(app)
        return OK

    def _signalled(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._wake.set()

    def _announce(self, app: App) -> None:
        """Where it listens, and the key by which its log is verified."""
        status = app.status()
        public, admin = app.snapshot.public_url, f"{self._settings.admin.listen.host}:{app.admin_port}"
        document: dict[str, Json] = {
            "version": __version__,
            "pid": os.getpid(),
            "public_url": public,
            "listen": f"{self._settings.listen.host}:{app.port}",
            "admin": admin,
            "node": status["node"],
            "vkey": status["vkey"],
        }
        text = (
            f"tollgate {__version__} serves {public}, admin plane on {admin}\n"
            f"verify its log with: tollgate audit verify {self._settings.data_dir} --key {status['vkey']}"
        )
        data(document, text, self._as_json)
        sys.stdout.flush()
        _log.info("serving %s, admin plane on %s, log key %s", public, admin, status["vkey"])

    async def _until_told(self, app: App) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            told, self._signals = self._signals, []
            if signal.SIGTERM in told or signal.SIGINT in told:
                return
            if signal.SIGHUP in told:
                await self._reload(app)

    async def _drain(self, app: App) -> None:
        _log.info("draining, at most %s s", self._settings.drain)
        stopping = asyncio.create_task(app.stop(self._settings.drain), name="drain")
        again = asyncio.create_task(self._wake.wait(), name="second signal")
        await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if not stopping.done():
            _log.warning("told twice: open exchanges are cut")
            os._exit(1)
        await stopping
        _log.info("ended")

    async def _reload(self, app: App) -> None:
        """Rule 1."""
        self._read = await self._look()  # before reading: a change in between is seen by the next look
        try:
            settings = await asyncio.to_thread(config.load, self._file, os.environ, vault=open_vault)
        except config.ConfigError as error:
            for problem in error.problems:
                _log.error("the configuration is not in force: %s", problem)
            app.refuse(str(error))
            return
        try:
            await app.reload(settings)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a new configuration, the running one stays)
            found = explained(error)
            if found is None:
                _log.exception("the configuration is not in force")
            else:
                _log.error("the configuration is not in force: %s", found[0])
            return
        self._settings = settings
        _log.info("the configuration is in force: revision %s", app.snapshot.revision)

    async def _watch(self, app: App) -> None:
        """Looks at the files; reloads when they changed and stay as they are."""
        self._read = before = await self._look()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._look()
            if now != self._read and now == before:
                _log.info("the configuration or the policy changed on disk")
                await self._reload(app)
            before = now

    async def _look(self) -> Looks:
        policy = self._settings.policy
        sides = [side.bundle for side in (policy.shadow, policy.rollout) if side is not None and side.bundle]
        return await asyncio.to_thread(fingerprint, self._file, policy.bundle, *sides)


def fingerprint(file: Path, *bundles: Path) -> Looks:
    """What tells one state of the files from another without reading them."""
    kinds = (".rego", ".json", ".yaml")
    paths = [file, *(path for path in bundles if path.is_file())]
    paths += [path for bundle in bundles for path in sorted(bundle.rglob("*")) if path.suffix in kinds]
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue  # gone between two looks: that is a change as well
        found.append((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
