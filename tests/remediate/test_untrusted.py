"""Messages that anybody may have written, on the embedded AWS with a real dead-letter queue: refused, counted, quarantined, nothing touched."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tests import fakes
from tests.remediate.world import ACCOUNT, NOW, World, task
from worker.model import Message, ProfileEvent, Verdict
from worker.remediate import tasks
from worker.remediate.quarantine import LONGEST_DETAIL, NONE, Quarantine
from worker.signature import signed
from worker.state.store import StoreError

KEYS = (b"the-first-secret-of-24-bytes", b"the-other-secret-of-24-bytes")
STRANGER = (b"a-secret-that-nobody-here-has",)
DONE = Verdict(delete=True)
LEFT = Verdict(delete=False, reason="task-refused")
Body = dict[str, Any]


@dataclass
class Queues:
    """A task queue with its dead-letter queue."""

    sqs: Any
    url: str
    dead: str

    async def letters(self) -> list[tuple[str, dict[str, str]]]:
        """What is on the dead-letter queue: bodies and attributes."""
        told = (await self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"])).get(
            "Messages", []
        )
        return [(one["Body"], {name: value["StringValue"] for name, value in one["MessageAttributes"].items()}) for one in told]


async def queues(world: World, ending: str = "") -> Queues:
    """Made as the template makes them; the world's executors quarantine there."""
    sqs = await world.accounts.client("sqs")
    fifo = {"FifoQueue": "true"} if ending else {}
    dead = (await sqs.create_queue(QueueName=f"dead{ending}", Attributes=fifo))["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead{ending}", "maxReceiveCount": 5})
    url = (await sqs.create_queue(QueueName=f"tasks{ending}", Attributes={**fifo, "RedrivePolicy": redrive}))["QueueUrl"]
    world.quarantine = Quarantine(sqs, url)
    return Queues(sqs, url, dead)


def good() -> Body:
    return task("enforce-mfa", "user", "mallory")


def put(**members: Any) -> Callable[[Body], Body]:
    return lambda body: {**body, **members}


def about(part: str, **members: Any) -> Callable[[Body], Body]:
    return lambda body: {**body, "finding": {**body["finding"], part: {**body["finding"][part], **members}}}


def nested(levels: int) -> str:
    return '{"x": ' + "[" * levels + "]" * levels + "}"


def by(keys: tuple[bytes, ...], then: Callable[[Body], Body] = lambda body: body) -> Callable[[Body], str]:
    """A message signed with these keys, and changed afterwards."""
    return lambda body: json.dumps(then(signed(body, keys)))


def by_us_but(change: Callable[[Body], Body]) -> Callable[[Body], str]:
    """A message that somebody who has the key signed."""
    return lambda body: json.dumps(signed(change(body), KEYS))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (json.dumps, "unsigned"),
        (by(STRANGER), "wrong-signature"),
        (by(KEYS, put(signature="v1,")), "wrong-signature"),
        (by(KEYS, put(signature=None)), "wrong-signature"),
        (by(KEYS, put(created_at=(NOW + timedelta(seconds=1)).isoformat())), "wrong-signature"),
        (by(KEYS, put(action="quarantine-user")), "wrong-signature"),
        (by(KEYS, put(target={"type": "user", "name": "bystander", "account": ACCOUNT})), "wrong-signature"),
        (by(KEYS, about("subject", name="bystander")), "wrong-signature"),
        (by(KEYS, put(approved=True)), "wrong-signature"),
        (by_us_but(put(schema="trailmend.task/2")), "wrong-schema"),
        (by_us_but(put(approved=True)), "wrong-schema"),
        (by_us_but(about("event", time="last month")), "wrong-schema"),
        (by_us_but(put(id="0f0e0d0c-0000-5000-8000-000000000009")), "wrong-id"),
        (by_us_but(about("subject", name="bystander")), "unsupported"),
        (by_us_but(about("subject", account=None)), "unsupported"),
        (by_us_but(about("event", error_code="AccessDenied")), "unsupported"),
        (by_us_but(put(params={"more": 1})), "wrong-params"),
        (lambda body: json.dumps(body).replace('"params": {}', f'"params": {nested(51)}'), "wrong-schema"),
        (lambda body: json.dumps(body).replace('"params": {}', f'"params": {nested(1000)}'), "wrong-schema"),
        (lambda _: "{", "not-json"),
        (lambda _: "null", "wrong-schema"),
        (lambda _: json.dumps({"signature": "v1," + "\u0000\u2028" * 9}), "wrong-signature"),
    ],
)
async def test_a_message_that_is_no_task_of_ours_is_quarantined_at_once(written: Callable[[Body], str], reason: str, world: World) -> None:
    """Refused with its own reason, counted, on the dead-letter queue with the body unchanged and the reason beside it, and nothing is touched."""
    await world.user()
    await world.user("bystander")
    where, before, text = await queues(world), await world.picture(), written(good())
    assert await world.handle(text, task_keys=KEYS) == DONE
    assert await world.picture() == before
    assert (world.wire.calls, await world.outcomes()) == ([], [])
    assert fakes.sample(world.metrics, "tasks_refused_total", reason=reason) == 1
    assert fakes.sample(world.metrics, "tasks_quarantined_total", outcome="quarantined") == 1
    ((body, told),) = await where.letters()
    assert (body, told["trailmend-refused"]) == (text, reason)
    assert 0 < len(told["trailmend-detail"]) <= LONGEST_DETAIL


async def test_a_message_that_is_too_large_is_quarantined_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is counted before anything of it is read. The bound is lowered, because the embedded SQS takes nothing as large as SQS does."""
    monkeypatch.setattr(tasks, "MAX_BODY_BYTES", 2000)
    where = await queues(world)
    text = json.dumps(signed({**good(), "params": {"more": "x" * 2000}}, KEYS))
    assert await world.handle(text, task_keys=KEYS) == DONE
    ((body, told),) = await where.letters()
    assert (body, told["trailmend-refused"]) == (text, "oversized")


async def test_a_message_that_comes_again_acts_once_and_changed_not_at_all(world: World) -> None:
    """Replayed as it was, it is known; replayed with anything changed, its signature no longer holds."""
    await world.user()
    await world.user("bystander")
    await queues(world)
    text = json.dumps(signed(good(), KEYS))
    assert await world.handle(text, task_keys=KEYS) == DONE
    after = await world.picture()
    assert await world.handle(text, task_keys=KEYS) == DONE
    later = json.dumps({**json.loads(text), "created_at": (NOW + timedelta(minutes=1)).isoformat()})
    assert await world.handle(later, task_keys=KEYS) == DONE
    assert await world.picture() == after
    assert (world.wire.calls, await world.outcomes()) == (["put_user_policy"], ["started", "applied"])
    assert fakes.sample(world.metrics, "remediations_total", action="enforce-mfa", outcome="duplicate") == 1
    assert fakes.sample(world.metrics, "tasks_refused_total", reason="wrong-signature") == 1


async def test_an_undone_task_that_comes_again_is_not_done_again(world: World) -> None:
    """Its signature holds for ever, and so does what is settled; undo reads the task from the journal, which keeps no signature."""
    await world.user()
    before = await world.picture()
    text = json.dumps(signed(good(), KEYS))
    await world.handle(text, task_keys=KEYS)
    assert "signature" not in json.dumps((await world.journal())[0])
    assert (await world.undo(task_keys=KEYS)).outcome == "undone"
    assert await world.handle(text, task_keys=KEYS) == DONE
    assert await world.picture() == before


@pytest.mark.parametrize("signing", [KEYS, KEYS[1:], KEYS[:1]])
async def test_while_a_secret_is_changed_both_are_taken(signing: tuple[bytes, ...], world: World) -> None:
    """Whoever signs with the old or the new one is heard."""
    await world.user()
    assert await world.handle(json.dumps(signed(good(), signing)), task_keys=KEYS) == DONE
    assert await world.outcomes() == ["started", "applied"]


async def test_without_a_key_a_signature_says_nothing(world: World) -> None:
    """Signed tasks can be sent before anybody checks them."""
    await world.user()
    assert await world.handle(json.dumps(signed(good(), STRANGER))) == DONE
    assert await world.outcomes() == ["started", "applied"]


async def test_a_new_task_for_an_old_event_is_only_told(world: World) -> None:
    """A log of last month that is read again makes tasks of today: shadowed, at the bound's other side done; nor are events of tomorrow trusted."""
    await world.user()
    before = await world.picture()
    age = timedelta(seconds=world.settings.max_task_age_seconds)
    for number, happened in enumerate((NOW - timedelta(days=30), NOW - age - timedelta(seconds=1), NOW + timedelta(minutes=6))):
        late = task("enforce-mfa", "user", "mallory", happened_at=happened, finding=f"0f0e0d0c-0000-5000-8000-00000000002{number}")
        assert await world.handle(json.dumps(late)) == DONE
    assert await world.picture() == before
    assert await world.outcomes() == ["shadowed"] * 3
    assert [line["reason"].split(":")[0] for line in await world.journal()] == ["too-old", "too-old", "from-the-future"]
    await world.handle(json.dumps(task("enforce-mfa", "user", "mallory", happened_at=NOW - age)))
    assert (await world.outcomes())[3:] == ["started", "applied"]


def remembered(kind: str, second: int, **detail: Any) -> ProfileEvent:
    return ProfileEvent(ACCOUNT, "web", NOW - timedelta(seconds=10 - second), f"event-{second}", kind, detail)


@pytest.mark.parametrize("action", ["restore-instance-profile", "reattach-role"])
async def test_no_instance_is_given_a_role_that_its_profile_never_held(action: str, world: World) -> None:
    """A forged task names the administrators' role: quarantined, with nothing claimed, so that the true task is done after it."""
    await world.role()
    await world.role("admin")
    if action == "reattach-role":
        await world.profile(role=None)
    await world.store.learn([remembered("RemoveRoleFromInstanceProfile", 1, role="web-role"), remembered("DeleteInstanceProfile", 2)])
    where, before = await queues(world), await world.picture()
    params = {"path": "/fleet/", "tags": {}, "instances": []}
    forged, true = (task(action, "instance-profile", "web", {**params, "role": role}) for role in ("admin", "web-role"))
    assert await world.handle(json.dumps(forged)) == DONE
    assert (await world.picture(), await world.outcomes()) == (before, [])
    ((body, told),) = await where.letters()
    assert (json.loads(body), told["trailmend-refused"]) == (forged, "role-not-remembered")
    assert await world.handle(json.dumps(true)) == DONE
    assert (await world.picture())["profile web"]["roles"] == ["web-role"]


async def test_a_memory_that_does_not_answer_is_no_memory_that_says_yes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is left until the store is back."""

    async def down(*_: Any) -> Any:
        raise StoreError("down")

    monkeypatch.setattr(world.store, "recall", down)
    body = task("reattach-role", "instance-profile", "web", {"role": "web-role"})
    assert await world.handle(json.dumps(body)) == Verdict(delete=False, reason="store")


# Where there is no quarantine, the message is left to its redrive.


async def test_without_a_dead_letter_queue_it_is_left(world: World) -> None:
    """As it was before there was a quarantine; counted as left. A queue that is given one later is found."""
    sqs = await world.accounts.client("sqs")
    url = (await sqs.create_queue(QueueName="lonely"))["QueueUrl"]
    world.quarantine = Quarantine(sqs, url)
    assert await world.quarantine.find() == NONE
    assert await world.handle("{") == LEFT
    assert fakes.sample(world.metrics, "tasks_quarantined_total", outcome="left") == 1
    await sqs.create_queue(QueueName="dead")
    redrive = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead", "maxReceiveCount": 5})
    await sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": redrive})
    assert await world.handle("{") == DONE


async def test_what_the_dead_letter_queue_does_not_take_is_left(world: World) -> None:
    """Nothing is deleted that is not somewhere else: a queue that is gone, and a body that SQS takes from nobody."""
    where = await queues(world)
    assert await world.handle("") == LEFT
    assert await world.handle("{" * 300_000) == LEFT
    await where.sqs.delete_queue(QueueUrl=where.dead)
    assert await world.handle("{") == LEFT
    assert fakes.sample(world.metrics, "tasks_quarantined_total", outcome="left") == 3


async def test_a_fifo_queue_has_a_fifo_quarantine(world: World) -> None:
    """It wants a group and a deduplication id: a message refused twice is there once."""
    where = await queues(world, ".fifo")
    for _ in range(2):
        assert await world.executor().handle(Message("one", "{", "r")) == DONE
    assert [body for body, _ in await where.letters()] == ["{"]
