"""A gateway served by the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

PROGRAM = "from gateway.cli.main import main; main()"


class Served:
    """A gateway in its own process; its log lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str], announced: dict[str, Any]) -> None:
        self.process = process
        self.announced = announced
        self.lines: list[dict[str, Any]] = []
        self.text = ""  # all of stderr so far
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.text += line
                self.lines.append(json.loads(line))
                self._more.notify_all()

    def said(self, text: str, seconds: float = 20.0) -> dict[str, Any]:
        """The first line that holds `text`, waited for and taken out."""
        deadline = time.monotonic() + seconds
        with self._more:
            while True:
                for line in self.lines:
                    if text in line["event"]:
                        self.lines.remove(line)
                        return line
                assert self._more.wait(deadline - time.monotonic()), f"never said: {text}; but {self.lines}"

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"http://{self.announced['listen']}{path}")

    def records(self, kind: str) -> list[dict[str, Any]]:
        token = Path("var/admin.token").read_text().strip()
        url = f"http://{self.announced['admin']}/api/v1/records?kind={kind}"
        found: list[dict[str, Any]] = httpx2.get(url, headers={"authorization": f"Bearer {token}"}).json()["records"]
        return found


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "serve", "--config", "gateway.yaml", *words]


@contextmanager
def serving(*words: str, **environ: str) -> Iterator[Served]:
    process = subprocess.Popen(
        command("--json", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | environ,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        yield Served(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def failed(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=60, env=os.environ | environ, check=False
    )
