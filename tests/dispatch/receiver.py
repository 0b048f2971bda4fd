"""A receiver of webhooks on loopback, which checks signatures as `docs/dispatch.md` tells receivers to."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from aiohttp import web


@dataclass
class Receiver:
    """`answers` are the statuses and headers of its next answers; when there are none left, it takes what comes."""

    url: str = ""
    asked: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    taken: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    down: bool = False

    async def receive(self, request: web.Request) -> web.Response:
        told = dict(request.headers), await request.read()
        self.asked.append(told)
        status, headers = self.answers.pop(0) if self.answers else (503 if self.down else 204, {})
        if status < 300:
            self.taken.append(told)
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on a port, or on a free one."""
    receiver = Receiver()
    application = web.Application(client_max_size=2**20)
    application.router.add_post("/{path:.*}", receiver.receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    server: Any = site._server
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield receiver
    await runner.cleanup()


def verify(secret: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """The five lines of docs/dispatch.md."""
    told = {name.lower(): value for name, value in headers.items()}
    signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(one, f"v1,{expected}") for one in told["webhook-signature"].split(" "))


def busy(times: int, status: int = 503, **headers: str) -> list[tuple[int, Mapping[str, str]]]:
    """So many refusals in a row."""
    return list(repeat((status, {name.replace("_", "-"): value for name, value in headers.items()}), times))
