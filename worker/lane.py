"""The fast lane to an AWS service: signed requests over kept connections, and only what goes smoothly.

An SDK's request costs half a millisecond of CPU, most of it in deciding what a request to this service looks like. Here that is decided once.
Whatever is not a plain 200 (a refusal, a redirect, a fault, a timeout, an expired credential, a clock that is wrong) is answered with None: the
caller goes the long way then, through its SDK, which knows about retries, refreshes and errors. After a failure to connect the lane stays
closed for a while. Behind a proxy it is never open.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.session import AioSession
from botocore.httpsession import get_cert_path

from worker.http1 import Answer, ConnectError, Connections, HttpError
from worker.sigv4 import EMPTY_SHA256, Signer

CREDENTIAL_CHECK = timedelta(seconds=30)
"""How long a credential is used before the session is asked for it again; the session refreshes it minutes before its end."""
CLOSED_FOR = timedelta(seconds=30)
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
OK = 200


class Lane:
    """One service at one endpoint. `environment` is read for a proxy and for `AWS_CA_BUNDLE`, as every AWS client reads it."""

    def __init__(
        self, session: AioSession, endpoint: str, service: str, region: str, environment: Mapping[str, str], clock: Callable[[], datetime]
    ) -> None:
        parts = urlsplit(endpoint)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        self._session = session
        self._service, self._region = service, region
        self._clock = clock
        self._host = parts.hostname or ""
        self._host_header = self._host if port == (443 if secure else 80) else f"{self._host}:{port}"
        self._connections = Connections(self._host, port, _tls(environment) if secure else None)
        self._open = not any(environment.get(name) for name in PROXIES) and parts.path in ("", "/")
        self._closed_until: datetime | None = None
        self._credential: Any = None
        self._asked_at: datetime | None = None
        self._second: datetime | None = None
        self._prepared: dict[tuple[tuple[str, str], ...], tuple[str, Signer]] = {}

    async def get(
        self, path: str, query: str = "", *, seconds: float, most_bytes: int, admit: Callable[[int], Awaitable[None]] | None = None
    ) -> Answer | None:
        """GET what stands at a path (percent-encoded). None where the long way has to be gone. `admit` is `Connections.ask`'s."""
        return await self._ask("GET", path, query, (("x-amz-content-sha256", EMPTY_SHA256),), b"", EMPTY_SHA256, seconds, most_bytes, admit)

    async def post(self, target: str, body: bytes, *, seconds: float, most_bytes: int) -> Answer | None:
        """Call an operation of a service that speaks JSON 1.0. None where the long way has to be gone."""
        headers = (("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target))
        return await self._ask("POST", "/", "", headers, body, hashlib.sha256(body).hexdigest(), seconds, most_bytes, None)

    def close(self) -> None:
        self._connections.close()

    async def _ask(
        self,
        method: str,
        path: str,
        query: str,
        more: tuple[tuple[str, str], ...],
        body: bytes,
        payload_sha256: str,
        seconds: float,
        most_bytes: int,
        admit: Callable[[int], Awaitable[None]] | None,
    ) -> Answer | None:
        now = self._clock()
        target = f"{path}?{query}" if query else path
        if not target.isascii() or not target.isprintable() or " " in target:
            return None  # it would end the request line, and begin another's request
        if not self._open or (self._closed_until is not None and now < self._closed_until):
            return None
        credential = await self._credentials(now)
        if credential is None:
            return None
        lines, signer = self._prepare(credential, now, more)
        signed = signer.authorization(method=method, path=path, query=query, payload_sha256=payload_sha256)
        length = f"content-length: {len(body)}\r\n" if body else ""
        request = f"{method} {target} HTTP/1.1\r\n{lines}authorization: {signed}\r\n{length}\r\n".encode() + body
        try:
            answer = await self._connections.ask(request, seconds=seconds, most_bytes=most_bytes, admit=admit)
        except ConnectError:
            self._closed_until = now + CLOSED_FOR
            return None
        except HttpError:
            return None
        return answer if answer.status == OK else None

    def _prepare(self, credential: Any, now: datetime, more: tuple[tuple[str, str], ...]) -> tuple[str, Signer]:
        """What all requests of a second with the same further headers share: their header lines, and who signs them."""
        second = now.replace(microsecond=0)
        if second != self._second:
            self._second, self._prepared = second, {}
        prepared = self._prepared.get(more)
        if prepared is None:
            stamp = second.strftime("%Y%m%dT%H%M%SZ")
            token = [("x-amz-security-token", credential.token)] if credential.token else []
            headers = sorted([("host", self._host_header), ("x-amz-date", stamp), *more, *token])
            signer = Signer(credential.access_key, credential.secret_key, stamp, self._region, self._service, headers)
            lines = "".join([f"{name}: {value}\r\n" for name, value in headers]) + "user-agent: trailmend\r\n"
            prepared = self._prepared[more] = lines, signer
        return prepared

    async def _credentials(self, now: datetime) -> Any:
        if self._asked_at is None or not self._asked_at <= now < self._asked_at + CREDENTIAL_CHECK:
            found = await self._session.get_credentials()
            self._credential = None if found is None else await found.get_frozen_credentials()
            self._asked_at, self._second = now, None
        return self._credential


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext:
    bundle = environment.get("AWS_CA_BUNDLE") or environment.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle or get_cert_path(verify=True))
