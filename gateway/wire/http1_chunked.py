"""Chunked bodies of upstream answers: llhttp decodes the chunks, the head that it sees is a constant of ours.

The rule it keeps: the end of the body is known to the byte. llhttp passes over stray line ends behind a message and
begins the next one by itself, so both are looked for here and told as `extra`. Trailers are read to their end and
dropped: nothing in them may become a header (RFC 9110 6.5.1). It must never hold more than it was fed.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.core.reasons import UpstreamFailed

MAX_OVERHEAD_BYTES = 64 * 1024  # chunk sizes, extensions and trailers between two body bytes

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"\r\n\r\n"


class Chunked:
    """One body. `ended` once its last byte was fed, `extra` when more than that was fed."""

    __slots__ = ("_found", "_overhead", "_parser", "_tail", "ended", "extra")

    def __init__(self) -> None:
        self._found: list[bytes] = []
        self._overhead = 0
        self._tail = b""
        self.ended = False
        self.extra = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data`. Raises UpstreamFailed for what is not chunked coding."""
        parser = self._parser
        if parser is None:
            raise RuntimeError("the body has ended")
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.ended:
                self._parser = None
                text = f"the chunked body is malformed: {error}"
                raise UpstreamFailed(text, error="http_response_transfer_coding", sent=True) from None
            self.extra = True
        body = self._taken()
        self._overhead = 0 if body else self._overhead + len(data)
        if self._overhead > MAX_OVERHEAD_BYTES:
            self._parser = None
            raise UpstreamFailed("chunk overhead without end", error="http_response_trailer_section_size", sent=True)
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if self.ended:
            self._parser = None  # parser and decoder hold each other
            if self._tail[-4:] != _END or self._tail[:1] in b"\r\n":
                self.extra = True
        return body

    def _taken(self) -> bytes:
        found = self._found
        if len(found) == 1:
            return found.pop()
        body = b"".join(found)
        found.clear()
        return body

    def on_message_begin(self) -> None:
        if self.ended:
            self.extra = True

    def on_body(self, data: bytes) -> None:
        if not self.ended:
            self._found.append(data)

    def on_message_complete(self) -> None:
        self.ended = True
