"""The lane carries what goes smoothly and says None to everything else; a connection is never used again after a fault."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop
from aiobotocore.session import get_session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import free_port
from worker.http1 import ConnectError, Connections, HttpError
from worker.lane import CLOSED_FOR, Lane

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request by a script, and remembers requests and connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(request)
                await self.script(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server(script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def answers(*pieces: bytes, close: bool = False) -> Script:
    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    return script


async def asked(server: Server, connections: Connections | None = None, seconds: float = 5, most_bytes: int = 1_000_000):
    connections = connections or Connections("127.0.0.1", server.port, None)
    return await connections.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", seconds=seconds, most_bytes=most_bytes)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((PLAIN,), id="whole"),
        pytest.param(tuple(PLAIN[n : n + 1] for n in range(len(PLAIN))), id="byte by byte"),
        pytest.param((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",), id="chunked"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n", PLAIN), id="after a 100"),
    ],
)
async def test_an_answer_is_read_however_it_comes(pieces):
    """In one piece or in many, and the connection is used again."""
    async with serving(answers(*pieces)) as server:
        connections = Connections("127.0.0.1", server.port, None)
        for _ in range(3):
            answer = await asked(server, connections)
            assert (answer.status, answer.body) == (200, b"hello")
        assert (server.connections, len(server.requests)) == (1, 3)
        connections.close()


@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        pytest.param((PLAIN[:-2],), True, id="cut in its body"),
        pytest.param((PLAIN[:20],), True, id="cut in its headers"),
        pytest.param((), True, id="closed without an answer"),
        pytest.param((b"\x16\x03\x01 this is no HTTP\r\n\r\n",), False, id="no HTTP"),
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000,), False, id="too long"),
        pytest.param((PLAIN[:-2],), False, id="too slow"),
    ],
)
async def test_what_is_no_answer_is_an_error_and_its_connection_closed(pieces, close):
    """And the next request has a connection of its own."""
    async with serving(answers(*pieces, close=close)) as server:
        connections = Connections("127.0.0.1", server.port, None)
        with pytest.raises(HttpError):
            await asked(server, connections, seconds=0.3)
        server.script = answers(PLAIN)
        assert (await asked(server, connections)).body == b"hello"
        assert server.connections == 2
        connections.close()


@pytest.mark.parametrize(
    "told",
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
)
async def test_a_server_that_wants_to_close_is_let(told):
    """Its connection is not used again."""
    async with serving(answers(told)) as server:
        connections = Connections("127.0.0.1", server.port, None)
        for _ in range(2):
            assert (await asked(server, connections)).body == b"hello"
        assert server.connections == 2


async def test_nobody_listening_is_a_connect_error():
    """It names the server."""
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1"):
        await Connections("127.0.0.1", free_port(), None).ask(b"GET / HTTP/1.1\r\n\r\n", seconds=1, most_bytes=10)


async def test_a_large_body_is_taken_only_when_it_is_admitted():
    """Until then it stays with the server: no more than what was on its way is held here."""
    body = b"x" * 8_000_000
    async with serving(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n", body)) as server:
        connections = Connections("127.0.0.1", server.port, None)
        admitted, sizes = asyncio.Event(), []

        async def admit(size: int) -> None:
            sizes.append(size)
            await admitted.wait()

        asking = asyncio.create_task(connections.ask(b"GET / HTTP/1.1\r\n\r\n", seconds=10, most_bytes=10_000_000, admit=admit))
        assert not (await asyncio.wait([asking], timeout=0.3))[0]
        assert sizes == [8_000_000]
        admitted.set()
        assert (await asking).body == body
        connections.close()


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "too slow"])
async def test_a_body_lost_while_it_waits_to_be_admitted_is_an_error(cut):
    """Whoever waited for room does not wait for ever for a body that is no longer coming."""
    written: list[asyncio.StreamWriter] = []

    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
        written.append(writer)

    async def admit(_: int) -> None:
        if cut:
            written[0].transport.abort()
        await asyncio.sleep(0.5)

    async with serving(script) as server:
        connections = Connections("127.0.0.1", server.port, None)
        with pytest.raises(HttpError):
            async with asyncio.timeout(5):
                await connections.ask(b"GET / HTTP/1.1\r\n\r\n", seconds=10 if cut else 0.2, most_bytes=10_000_000, admit=admit)


async def test_a_body_that_is_not_admitted_is_not_taken():
    """What `admit` raises is raised, and the connection is closed."""

    async def refuse(size: int) -> None:
        raise ValueError(size)

    async with serving(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n", b"x" * 8_000_000)) as server:
        connections = Connections("127.0.0.1", server.port, None)
        with pytest.raises(ValueError, match="8000000"):
            await connections.ask(b"GET / HTTP/1.1\r\n\r\n", seconds=10, most_bytes=10_000_000, admit=refuse)
        server.script = answers(PLAIN)
        assert (await asked(server, connections)).body == b"hello"
        assert server.connections == 2


async def test_a_request_given_up_takes_its_connection_with_it():
    """The answer to a cancelled request is never another's."""
    async with serving(answers()) as server:
        connections = Connections("127.0.0.1", server.port, None)
        asking = asyncio.create_task(asked(server, connections))
        while not server.requests:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        server.script = answers(PLAIN)
        assert (await asked(server, connections)).body == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "scenario",
    [
        lambda: test_an_answer_is_read_however_it_comes((PLAIN,)),
        lambda: test_an_answer_is_read_however_it_comes(tuple(PLAIN[n : n + 1] for n in range(len(PLAIN)))),
        lambda: test_what_is_no_answer_is_an_error_and_its_connection_closed((PLAIN[:-2],), close=True),
        lambda: test_what_is_no_answer_is_an_error_and_its_connection_closed((PLAIN[:-2],), close=False),
        test_nobody_listening_is_a_connect_error,
        test_a_large_body_is_taken_only_when_it_is_admitted,
        test_a_body_that_is_not_admitted_is_not_taken,
        test_a_request_given_up_takes_its_connection_with_it,
    ],
)
def test_uvloop_keeps_the_same_promises(scenario):
    """The program runs on uvloop, the tests on asyncio's own loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.fixture
def lane_to(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return lambda url, environment=None, clock=lambda: NOON: Lane(get_session(), url, "s3", "us-east-1", environment or {}, clock)


async def test_a_plain_answer_is_carried_and_its_request_signed(lane_to):
    """With host, date and authorization."""
    async with serving(answers(PLAIN)) as server:
        lane = lane_to(f"http://127.0.0.1:{server.port}")
        answer = await lane.get("/logs/k", seconds=5, most_bytes=100)
        assert answer is not None
        assert answer.body == b"hello"
        (request,) = server.requests
        assert request.startswith(b"GET /logs/k HTTP/1.1\r\n")
        assert f"host: 127.0.0.1:{server.port}\r\n".encode() in request
        assert b"Credential=AKID/20261124/us-east-1/s3/aws4_request" in request
        lane.close()


@pytest.mark.parametrize("path", ["/logs/k HTTP/1.1", "/logs/k\r\nx-more: 1", "/logs/\x00", "/logs/é"])
async def test_nothing_but_a_path_goes_into_the_request_line(lane_to, path):
    """What is not percent-encoded is not sent: no message can write a header or a second request."""
    async with serving(answers(PLAIN)) as server:
        assert await lane_to(f"http://127.0.0.1:{server.port}").get(path, seconds=5, most_bytes=100) is None
        assert server.connections == 0


@pytest.mark.parametrize("status", [b"301 Moved", b"400 Bad Request", b"403 Forbidden", b"404 Not Found", b"500 Oops", b"503 Slow Down"])
async def test_whatever_is_not_plainly_fine_goes_the_long_way(lane_to, status):
    """A refusal, a redirect, a fault: None, and the lane stays open for the next."""
    async with serving(answers(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as server:
        lane = lane_to(f"http://127.0.0.1:{server.port}")
        assert await lane.get("/logs/k", seconds=5, most_bytes=100) is None
        server.script = answers(PLAIN)
        assert await lane.get("/logs/k", seconds=5, most_bytes=100) is not None
        lane.close()


async def test_a_server_that_cannot_be_reached_closes_the_lane_for_a_while(lane_to):
    """Nobody waits for it again and again; after a while it is tried again."""
    now = NOON
    async with serving(answers(PLAIN)) as server:
        lane = lane_to(f"http://127.0.0.1:{free_port()}", clock=lambda: now)
        assert await lane.get("/k", seconds=5, most_bytes=100) is None
        lane._connections = Connections("127.0.0.1", server.port, None)
        assert await lane.get("/k", seconds=5, most_bytes=100) is None
        assert server.connections == 0
        now += CLOSED_FOR + timedelta(seconds=1)
        assert await lane.get("/k", seconds=5, most_bytes=100) is not None


async def test_behind_a_proxy_the_lane_is_never_open(lane_to):
    """The SDK knows about proxies."""
    async with serving(answers(PLAIN)) as server:
        lane = lane_to(f"http://127.0.0.1:{server.port}", {"HTTPS_PROXY": "http://127.0.0.1:9"})
        assert await lane.get("/k", seconds=5, most_bytes=100) is None
        assert server.connections == 0


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that vouches for itself, in one file."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return path


async def test_tls_is_spoken_with_whom_the_bundle_vouches_for_and_nobody_else(lane_to, tmp_path):
    """`AWS_CA_BUNDLE` is honoured; without it a certificate of one's own is not taken."""
    path = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path)
    async with serving(answers(PLAIN), tls) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert await lane_to(url).get("/k", seconds=5, most_bytes=100) is None
        trusting = lane_to(url, {"AWS_CA_BUNDLE": str(path)})
        answer = await trusting.get("/k", seconds=5, most_bytes=100)
        assert answer is not None
        assert answer.body == b"hello"
        trusting.close()
