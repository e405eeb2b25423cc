"""A channel through Apprise: mail, chat and whatever else it knows, by its URLs (extra `alerts`).

The rules: the URL is a secret and is never told; Apprise dials for itself, to the operator's own address, in a thread
of its own with a deadline; letters that wait go out as one message, so that a bad day is not a hundred mails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import apprise

from gateway.core.notices import Letter, NotSent

SEND_SECONDS = 30.0


class Unusable(Exception):
    """Apprise cannot use the URL; `args[0]` names the channel and nothing of the URL."""


class ByApprise:
    """A Channel. Raises Unusable."""

    at_once = 50

    def __init__(self, name: str, url: str, node: str) -> None:
        self.name = name
        self._node = node
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines may tell parts of URLs
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise Unusable(f"alerts.apprise {name}: its URL is none that Apprise can use")
        self._executor = ThreadPoolExecutor(1, f"tollgate-alerts-{name}")

    async def send(self, letters: Sequence[Letter]) -> None:
        title = f"[{self._node}] {letters[0].alert.title}"
        if len(letters) > 1:
            title += f" and {len(letters) - 1} more"
        text = "\n\n".join(f"{it.alert.time} {it.alert.title}\n{it.alert.text}" for it in letters)
        job = asyncio.get_running_loop().run_in_executor(self._executor, self._notify, title, text)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                taken = await job
        except TimeoutError:
            raise NotSent(f"not taken within {SEND_SECONDS:g} s") from None
        if not taken:
            raise NotSent("Apprise could not hand it over")

    def close(self) -> None:
        """Waits for nobody: a message under way ends with its own deadlines."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _notify(self, title: str, text: str) -> bool:
        return bool(self._apprise.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT))
