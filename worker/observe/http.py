"""What a scraper and an orchestrator ask: `/metrics`, `/healthz`, `/readyz`.

`/healthz` is 200 as long as the event loop answers. `/readyz` is 200 only while receives succeed and work moves forward; otherwise 503 with the
reasons, one a line. Plain HTTP, no secrets, meant for the cluster's own network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.variables import HttpAddress


class ListenError(Exception):
    """The address cannot be listened on. The text says which and why."""


@asynccontextmanager
async def serving(
    address: HttpAddress | Path,
    registry: CollectorRegistry,
    faults: Callable[[], list[str]],
    refresh: Callable[[], Awaitable[None]] | None = None,
    notes: Callable[[], list[str]] = list,
) -> AsyncIterator[str]:
    """Serve while the context lasts, at a host and port or at a socket's path; yields where, with the real port. Raises `ListenError`.

    `refresh` is awaited before the metrics and the readiness are told. `notes` is what to tell beside `ready`.
    """

    async def metrics(request: web.Request) -> web.Response:
        await refresh_all()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def refresh_all() -> None:
        if refresh is not None:
            await refresh()

    async def readyz(_: web.Request) -> web.Response:
        await refresh_all()
        wrong = faults()
        return web.Response(status=503 if wrong else 200, text="\n".join(wrong or ["ready", *notes()]) + "\n")

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.UnixSite(runner, address) if isinstance(address, Path) else web.TCPSite(runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            where = address if isinstance(address, Path) else f"{address.host}:{address.port}"
            raise ListenError(f"TRAILMEND_HTTP_ADDRESS: cannot listen on {where}: {error.strerror or error}") from error
        yield f"unix:{address}" if isinstance(address, Path) else f"http://{address.host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
