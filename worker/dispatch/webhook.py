"""A webhook: findings and tasks as signed HTTPS POSTs, by the Standard Webhooks specification.

The body is the item as JSON. Three headers go with it: `webhook-id` (the item's id, the same on every try), `webhook-timestamp` (seconds since 1970 of this
try) and `webhook-signature`: for each secret `v1,` and the Base64 of HMAC-SHA256 over id, timestamp and body, with a full stop between. A receiver
checks the signature, refuses old timestamps, drops ids it has seen, and answers 2xx: `docs/dispatch.md`. A redirect is not followed, because
whoever is behind it was not named by the operator.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import aiohttp

from worker import signature as signatures
from worker.model import Outgoing

TRIES = 3
TIMEOUT = aiohttp.ClientTimeout(total=5.0, connect=3.0)
LONGEST_PAUSE_SECONDS = 3.0
"""Between two tries; who asks for more (Retry-After) is left to the outbox. All tries together stay within what the outbox allows a sink."""
TOO_MANY, SERVER_FAULT = 429, 500


class WebhookSink:
    """One receiver. `url` may hold a secret, so that its hash stands in the key. The session is its owner's to close."""

    kind = "webhook"

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        secrets: Sequence[bytes],
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.key = f"webhook:{hashlib.sha256(url.encode()).hexdigest()}"
        self._session = session
        self._url = url
        self._secrets = tuple(secrets)
        self._clock = clock
        self._sleep = sleep

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        told = [(item.id, await self._put(item)) for item in items]
        return {number: refusal for number, refusal in told if refusal is not None}

    async def _put(self, item: Outgoing) -> str | None:
        refusal: str | None = None
        for attempt in range(TRIES):
            refusal, pause = await self._post(item, 0.5 * 2**attempt)
            if refusal is None or pause is None or attempt == TRIES - 1 or pause > LONGEST_PAUSE_SECONDS:
                break
            await self._sleep(pause)
        return refusal

    async def _post(self, item: Outgoing, pause: float) -> tuple[str | None, float | None]:
        """Why it was not taken, and after how many seconds another try makes sense; None for either."""
        stamp = str(int(self._clock().timestamp()))
        headers = {
            "content-type": "application/json",
            "user-agent": "trailmend",
            "webhook-id": item.id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(signature(secret, item.id, stamp, item.body) for secret in self._secrets),
        }
        try:
            async with self._session.post(self._url, data=item.body, headers=headers, allow_redirects=False, timeout=TIMEOUT) as answer:
                status, asked = answer.status, answer.headers.get("retry-after", "")
        except TimeoutError:
            return f"no answer within {TIMEOUT.total:g} s", pause
        except aiohttp.ClientConnectorError as error:
            return f"no connection: {error}", pause  # to which host and why
        except (aiohttp.ClientError, OSError) as error:
            # Its text may hold the URL, and the URL a secret.
            return f"no answer: {type(error).__name__}", pause
        if 200 <= status < 300:
            return None, None
        refusal = f"answered with HTTP status {status}"
        if status != TOO_MANY and status < SERVER_FAULT:
            return refusal, None
        return refusal, float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else pause


def signature(secret: bytes, number: str, stamp: str, body: bytes) -> str:
    """What stands in `webhook-signature` for one secret."""
    return signatures.signature(secret, f"{number}.{stamp}.".encode() + body)
