"""A webhook is signed so that anybody can check it, tried again where that makes sense, and tells no secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from tests.conftest import free_port
from tests.dispatch.receiver import Receiver, busy, receiving, verify
from tests.fakes import NOON
from worker.dispatch.webhook import WebhookSink, signature
from worker.model import Outgoing

SECRET, NEXT = b"0123456789abcdefghijklmn", bytes(range(24))
ITEM = Outgoing("id-1", "group", '{"tëxt": "\u2028"}'.encode())


async def put(receiver: Receiver, *items: Outgoing, secrets=(SECRET,), path: str = ""):
    """Put items; answers what was refused, and the pauses that were made."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with aiohttp.ClientSession() as session:
        sink = WebhookSink(session, receiver.url + path, secrets, lambda: NOON + timedelta(seconds=len(pauses)), sleep)
        return await sink.put(items or [ITEM]), pauses


async def test_a_receiver_can_check_who_sent_it_and_that_nothing_was_changed():
    """With either secret while it is being changed; not with another one, another body, id or time."""
    async with receiving() as receiver:
        assert (await put(receiver, secrets=(SECRET, NEXT)))[0] == {}
    ((headers, body),) = receiver.taken
    told = {name.lower(): value for name, value in headers.items()}
    assert body == ITEM.body
    assert (told["webhook-id"], told["webhook-timestamp"]) == ("id-1", str(int(NOON.timestamp())))
    assert verify(SECRET, headers, body)
    assert verify(NEXT, headers, body)
    assert not verify(b"y" * 24, headers, body)
    assert not verify(SECRET, headers, body + b" ")
    assert not verify(SECRET, {**told, "webhook-id": "id-2"}, body)
    assert not verify(SECRET, {**told, "webhook-timestamp": "1"}, body)


async def test_the_lines_that_the_documentation_gives_receivers_hold():
    """They take what is genuine, and refuse what was changed or is old."""
    page = (Path(__file__).parents[2] / "docs" / "dispatch.md").read_text()
    (code,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    async with receiving() as receiver:
        await put(receiver)
    ((headers, body),) = receiver.taken

    def refused(body: bytes, now: datetime) -> bool:
        told: list[bool] = []
        around = {"headers": headers, "body": body, "secret": SECRET, "refuse": lambda: told.append(True)}
        clock = SimpleNamespace(time=now.timestamp)
        exec(code, {**around, "base64": base64, "hashlib": hashlib, "hmac": hmac, "time": clock})
        return bool(told)

    assert not refused(body, NOON)
    assert refused(body + b" ", NOON)
    assert refused(body, NOON + timedelta(minutes=6))


def test_the_signature_is_that_of_the_specification():
    """The example of https://github.com/standard-webhooks/standard-webhooks, computed by its reference library."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    told = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_receiver_that_is_busy_is_asked_again(status):
    """A little later each time, with the same id and a new time and signature."""
    async with receiving() as receiver:
        receiver.answers = busy(2, status)
        assert await put(receiver) == ({}, [0.5, 1.0])
    assert [headers["webhook-id"] for headers, _ in receiver.asked] == ["id-1"] * 3
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.asked}) == 3
    assert all(verify(SECRET, *one) for one in receiver.asked)


async def test_a_receiver_that_stays_busy_is_left_alone_after_three_tries():
    """The rest is the outbox's."""
    async with receiving() as receiver:
        receiver.down = True
        assert await put(receiver) == ({"id-1": "answered with HTTP status 503"}, [0.5, 1.0])
    assert len(receiver.asked) == 3


@pytest.mark.parametrize(("asked", "pauses"), [("2", [2.0]), ("0", [0.0]), ("Wed, 21 Oct 2026 07:28:00 GMT", [0.5]), ("-1", [0.5])])
async def test_a_receiver_says_when_to_come_again(asked, pauses):
    """In seconds (Retry-After); any other form is passed over."""
    async with receiving() as receiver:
        receiver.answers = busy(1, 429, retry_after=asked)
        assert await put(receiver) == ({}, pauses)


async def test_who_asks_for_a_long_pause_gets_it():
    """Nothing waits for it here: the outbox does."""
    async with receiving() as receiver:
        receiver.answers = busy(1, 429, retry_after="3600")
        failed, pauses = await put(receiver)
    assert (failed.keys(), pauses, len(receiver.asked)) == ({"id-1"}, [], 1)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 413])
async def test_what_a_second_try_would_not_mend_is_not_tried_again(status):
    """A redirect among it: it is not followed."""
    async with receiving() as receiver:
        receiver.answers = busy(1, status, location=f"{receiver.url}/elsewhere")
        assert await put(receiver) == ({"id-1": f"answered with HTTP status {status}"}, [])
    assert len(receiver.asked) == 1


async def test_one_refusal_keeps_no_other():
    """Each item by itself."""
    async with receiving() as receiver:
        receiver.answers = busy(1, 400)
        failed, _ = await put(receiver, ITEM, Outgoing("id-2", "g", b"{}"))
    assert failed.keys() == {"id-1"}
    assert [body for _, body in receiver.taken] == [b"{}"]


async def test_neither_key_nor_reason_tells_the_address():
    """Its path may be a secret."""
    failed, pauses = await put(Receiver(url=f"http://127.0.0.1:{free_port()}/t0ken"))
    assert len(pauses) == 2
    assert "t0ken" not in failed["id-1"]
    async with aiohttp.ClientSession() as session:
        keys = {WebhookSink(session, f"https://example.com/{path}", (SECRET,), lambda: NOON).key for path in ("t0ken", "t0ken2")}
    assert len(keys) == 2
    assert not any("t0ken" in key for key in keys)
