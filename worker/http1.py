"""HTTP/1.1 to one server over connections that are kept: for the few requests that are made thousands of times a second.

A request goes in whole, an answer comes out whole. Nothing is retried, redirected or proxied here: whoever asks has another way for anything
but a plain answer. Parsing is llhttp's (`httptools`). A request that is cancelled or fails takes its connection with it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httptools

LARGE_BYTES = 256 * 1024
"""An answer of more is admitted by its announced length before its body is taken."""
MOST_IDLE = 64
LOOK_SECONDS = 0.25
"""How often it is looked which requests are late: one timer for all, where one for each would cost as much as the signature."""


class HttpError(Exception):
    """No answer: cut off, too slow, too long or no HTTP. The text says which."""


class ConnectError(HttpError):
    """No connection, so that the next try will hardly fare better."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. `headers` has lower-case names; of one given twice the last counts."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connections:
    """Connections to one server, as many as there are requests at a time; `idle` ones are kept. `tls` is None for plain HTTP. One event loop's own."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, connect_seconds: float = 5.0) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._connect_seconds = connect_seconds
        self._idle: deque[_Connection] = deque()
        self._asked: dict[_Connection, tuple[float, float]] = {}
        self._looking: asyncio.TimerHandle | None = None

    async def ask(
        self, request: bytes, *, seconds: float, most_bytes: int, admit: Callable[[int], Awaitable[None]] | None = None
    ) -> Answer:
        """Send a request and wait for its answer, at most `seconds` (and LOOK_SECONDS) and of at most `most_bytes`. Raises `HttpError`.

        `admit` is awaited with the length of the body, before that is taken where it is large; what it raises is raised.
        """
        connection = await self._connection()
        loop = asyncio.get_running_loop()
        self._asked[connection] = (loop.time() + seconds, seconds)
        if self._looking is None:
            self._looking = loop.call_later(LOOK_SECONDS, self._look, loop)
        try:
            answer = await connection.ask(request, most_bytes, admit)
        except BaseException:
            connection.close()
            raise
        finally:
            del self._asked[connection]
        if connection.reusable and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail what is late, for as long as anything is asked."""
        now = loop.time()
        for connection, (late, seconds) in list(self._asked.items()):
            if late <= now:
                connection.fail(f"no answer from {self._host} within {seconds:g} s")
        self._looking = loop.call_later(LOOK_SECONDS, self._look, loop) if self._asked else None

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            raise ConnectError(f"no connection to {self._host}:{self._port}: {str(error) or type(error).__name__}") from error
        return made

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()


class _Connection(asyncio.Protocol):
    """One request at a time. The parser calls the `on_` methods."""

    def __init__(self) -> None:
        self.reusable = False
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._size = self._most = 0
        self._complete = self._keep = False
        self._fault: HttpError | None = None

    async def ask(self, request: bytes, most_bytes: int, admit: Callable[[int], Awaitable[None]] | None) -> Answer:
        loop = asyncio.get_running_loop()
        self._headers, self._pieces, self._size, self._most = {}, [], 0, most_bytes
        self._complete = False
        self._waiter = loop.create_future()
        self._transport.write(request)
        await self._waiter
        if admit is not None:
            await admit(int(self._headers.get(b"content-length", self._size)))
        if self._fault is not None:  # cut while the body waited to be admitted
            raise self._fault
        if not self._complete:
            self._waiter = loop.create_future()
            self._transport.resume_reading()
            await self._waiter
        self._waiter = None
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        return Answer(self._parser.get_status_code(), self._headers, body)

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.reusable = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._complete:
            self.close()  # nobody has asked for anything
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(f"no HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        if not self._complete:
            self.fail(f"the connection was cut: {error or 'closed by the server'}")

    def fail(self, text: str) -> None:
        """Close, and tell whoever waits why."""
        self.close()
        self._fault = HttpError(text)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._fault)

    # What the parser says.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._keep = self._parser.should_keep_alive()
        if int(self._headers.get(b"content-length", b"0")) > LARGE_BYTES:
            self._transport.pause_reading()
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._most:
            self.fail(f"an answer of more than {self._most} bytes")
            return
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # 100 Continue and its like come before the answer
            self._headers, self._pieces, self._size = {}, [], 0
            return
        self._complete = True
        self.reusable = self.reusable and self._keep
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
