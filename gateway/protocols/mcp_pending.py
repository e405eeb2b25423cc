"""What is remembered from one request to the next: the server requests that callers were shown and may answer (legacy
era), by session; and which upstreams have no tasks.

The rule it keeps: a response is judged as the request it answers, so one that answers nothing shown in its own session
has no meaning here. Bounded in both directions: an upstream that asks without end pushes out its own oldest requests,
a flood of sessions the session that was quiet longest. It must never hold what was asked or answered.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_SESSIONS = 4096  # a client has one or a few
MAX_REQUESTS = 64  # that wait in one session at a time; real ones wait for a person or a model


class Pending:
    __slots__ = ("_sessions", "_taskless")

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[str, str], OrderedDict[int | str, str]] = OrderedDict()
        self._taskless: set[str] = set()  # names of the configuration, so there are few

    def add(self, route: str, session: str, ident: int | str, method: str) -> None:
        """Remembers one request. A session's owner was checked before; without a session nothing can be answered."""
        if not session:
            return
        requests = self._sessions.setdefault((route, session), OrderedDict())
        self._sessions.move_to_end((route, session))
        requests[ident] = method
        requests.move_to_end(ident)
        if len(requests) > MAX_REQUESTS:
            requests.popitem(last=False)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def method(self, route: str, session: str, ident: object) -> str | None:
        """What the request with this id asked for, None if none was shown. It stays: a response may be sent again."""
        if not isinstance(ident, int | str) or isinstance(ident, bool):
            return None
        requests = self._sessions.get((route, session))
        return requests.get(ident) if requests is not None else None

    def forget(self, route: str, session: str) -> None:
        """A session id that was minted (again) starts with nothing."""
        self._sessions.pop((route, session), None)

    def tasks(self, upstream: str, offered: bool) -> None:
        """What an upstream last said of itself (modern era)."""
        (self._taskless.discard if offered else self._taskless.add)(upstream)

    def taskless(self, upstream: str) -> bool:
        return upstream in self._taskless
