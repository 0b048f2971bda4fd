"""Every call that an action makes is known in CloudTrail for ours, whatever becomes of the process that made it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ConnectionClosedError

from tests.fakes import sample
from tests.remediate.scenes import SCENES, UNDOABLE, Scene, a_user_without_mfa
from tests.remediate.world import ACCOUNT, CrashError, World
from worker.model import Origin, Record, call_key, is_marked
from worker.own_records import OwnRecords
from worker.remediate.calls import CALLS, INTEREST

READS = ("Get", "List", "Describe")


class CloudTrail:
    """What CloudTrail would tell of the calls that reach AWS: their APIs, user agents and request ids, as they were on the wire."""

    def __init__(self, session: AioSession) -> None:
        self.session = session
        self.records: list[dict[str, Any]] = []
        self._agent = ""
        self._asked: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.session.register("provide-client-params", self._begun, unique_id="test-begun")
        self.session.register("before-send", self._sent, unique_id="test-sent")
        self.session.register("after-call", self._answered, unique_id="test-answered")
        return self

    def __exit__(self, *_: object) -> None:
        self.session.unregister("provide-client-params", unique_id="test-begun")
        self.session.unregister("before-send", unique_id="test-sent")
        self.session.unregister("after-call", unique_id="test-answered")

    def _begun(self, params: dict[str, Any], **_: Any) -> None:
        self._asked = {f"{name[0].lower()}{name[1:]}": value for name, value in params.items()}

    def _sent(self, request: Any, **_: Any) -> None:
        agent = request.headers["User-Agent"]
        self._agent = agent.decode() if isinstance(agent, bytes) else agent

    def _answered(self, parsed: Any, model: Any, **_: Any) -> None:
        if model.name.startswith(READS):
            return
        self.records.append(
            {
                "eventSource": f"{model.service_model.endpoint_prefix}.amazonaws.com",
                "eventName": model.name,
                "eventID": str(uuid.uuid4()),
                "recipientAccountId": ACCOUNT,
                "requestID": parsed["ResponseMetadata"]["RequestId"],
                "userAgent": self._agent,
                "requestParameters": self._asked,
                "errorCode": parsed.get("Error", {}).get("Code"),
            }
        )


@pytest.fixture
def trail(world: World) -> Iterator[CloudTrail]:
    with CloudTrail(world.accounts.session) as told:
        yield told


async def ours(world: World, told: list[dict[str, Any]]) -> list[bool]:
    """Which of the records the worker takes for our own."""
    records = [Record({**one, "eventTime": world.now.isoformat()}, Origin(path="test")) for one in told]
    assert all(is_marked(record) for record in records)
    known = await OwnRecords(world.store, world.metrics, lambda: world.now, "worker").among(records)
    return [record.text("requestID") in known for record in records]


def counted(world: World, outcome: str) -> float:
    family = next(one for one in world.metrics.registry.collect() if one.name == "trailmend_remediations_confirmed")
    return sum(float(one.value) for one in family.samples if one.name.endswith("_total") and one.labels["outcome"] == outcome)


@pytest.mark.parametrize("scene", SCENES)
async def test_every_call_of_every_action_is_known_confirmed_and_among_those_the_worker_wants(
    scene: Scene, world: World, trail: CloudTrail
) -> None:
    """By the request id that AWS answered, once for each call."""
    body = await scene(world)
    trail.records = []
    assert (await world.handle(json.dumps(body))).delete
    assert trail.records
    assert all(await ours(world, trail.records))
    assert counted(world, "confirmed") == len(trail.records)
    for one in trail.records:
        assert INTEREST.wants(one["eventSource"], one["eventName"])
        assert one["eventName"] in CALLS[one["eventSource"].split(".")[0]]


@pytest.mark.parametrize("scene", UNDOABLE)
async def test_every_call_of_every_undo_is_too(scene: Scene, world: World, trail: CloudTrail) -> None:
    """An undo is made of calls like any other."""
    await world.handle(json.dumps(await scene(world)))
    trail.records = []
    assert (await world.undo()).outcome == "undone"
    assert trail.records
    assert all(await ours(world, trail.records))
    assert counted(world, "confirmed") == len(trail.records)
    assert all(INTEREST.wants(one["eventSource"], one["eventName"]) for one in trail.records)


async def test_what_others_do_meanwhile_is_not_ours(world: World, trail: CloudTrail) -> None:
    """Though the test's own clients bear our mark."""
    await world.user()
    assert not any(await ours(world, trail.records))


@pytest.mark.parametrize("scene", SCENES)
async def test_a_call_whose_process_died_before_it_heard_is_known_all_the_same(scene: Scene, world: World, trail: CloudTrail) -> None:
    """The answer to each call in turn is lost with its process; nothing of what was done is found, and each call counts once."""
    body = await scene(world)
    trail.records = []
    for _ in range(20):
        world.wire.die_after = len(world.wire.calls)
        try:
            verdict = await world.handle(json.dumps(body))
        except CrashError:
            world.pass_lease()
        else:
            break
    assert verdict.delete
    made = [one for one in trail.records if one["errorCode"] is None]
    assert len(made) == len(world.wire.calls) > 0
    assert all(await known_at_their_times(world, trail.records))
    assert counted(world, "confirmed") == len(made)


async def known_at_their_times(world: World, told: list[dict[str, Any]]) -> list[bool]:
    """As `ours`, each record with the time that its token was made at."""
    answers = []
    for one in told:
        at = int(one["userAgent"].split("trailmend-call/")[1].split(".")[2])
        record = Record({**one, "eventTime": datetime.fromtimestamp(at, UTC).isoformat()}, Origin(path="test"))
        known = await OwnRecords(world.store, world.metrics, lambda: world.now, "worker").among([record])
        answers.append(record.text("requestID") in known)
    return answers


async def test_a_call_that_AWS_refuses_is_known_and_not_waited_for(world: World, trail: CloudTrail) -> None:  # noqa: N802
    """CloudTrail tells of most refusals, and of none that was throttled."""
    body = await a_user_without_mfa(world)
    iam = await world.accounts.client("iam")
    trail.records = []

    real = iam.put_user_policy

    async def refused(**parameters: Any) -> Any:
        return await real(**{**parameters, "UserName": "nobody"})

    iam.put_user_policy = refused
    verdict = await world.handle(json.dumps(body))
    assert verdict.reason == "failed"
    assert [one["errorCode"] for one in trail.records] == ["NoSuchEntity"]
    assert await ours(world, trail.records) == [True]
    assert counted(world, "confirmed") == 0
    assert await world.store.overdue(world.now.replace(year=2100), 9) == []


async def test_nothing_is_waited_for_where_nobody_asks_for_it(world: World, trail: CloudTrail) -> None:
    """With CONFIRM_SECONDS=0, for whoever has no worker to see it, calls are known all the same."""
    body = await a_user_without_mfa(world)
    trail.records = []
    assert (await world.handle(json.dumps(body), confirm_seconds=0)).delete
    assert await world.store.overdue(world.now.replace(year=2100), 9) == []
    assert await ours(world, trail.records) == [True]
    assert sample(world.metrics, "records_own_total", call="known") == 1


@pytest.mark.parametrize("answered", [True, False])
async def test_a_call_that_was_tried_again_leaves_its_token_only_where_a_try_was_not_answered(
    answered: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that was throttled has a request id of its own, and is ours too."""
    body = await a_user_without_mfa(world)
    iam = await world.accounts.client("iam")
    session, agents = iam._endpoint.http_session, list[str]()  # the wire itself, beneath every try
    real = session.send

    async def send(request: Any) -> Any:
        if b"trailmend-call" not in request.headers.get("User-Agent", b""):
            return await real(request)
        agents.append(request.headers["User-Agent"].decode())
        answer = await real(request)
        if len(agents) > 1:
            return answer
        if not answered:
            raise ConnectionClosedError(endpoint_url="x")
        text = b"<ErrorResponse><Error><Code>Throttling</Code><Message>Slow</Message></Error><RequestId>R-1</RequestId></ErrorResponse>"
        content = asyncio.get_running_loop().create_future()
        content.set_result(text)
        return SimpleNamespace(status_code=400, headers={}, content=content, raw=answer.raw)

    monkeypatch.setattr(session, "send", send)
    assert (await world.handle(json.dumps(body))).delete
    assert len(agents) == 2
    token = agents[0].split("trailmend-call/")[1]
    assert await world.store.settled([f"call spent|{token}", call_key("R-1")]) == (
        {f"call spent|{token}", call_key("R-1")} if answered else frozenset()
    )
