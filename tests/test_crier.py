"""Whoever is to agree is told once, whatever stops the telling, and what they are told is what the shipped schema says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from tests.fakes import NOON, MemorySink, metrics
from tests.remediate.world import task
from worker.crier import LEASE, Crier
from worker.dispatch import brief, wire
from worker.dispatch.outbox import Outbox
from worker.model import Answer, Approval, Decision
from worker.state.sqlite import SqliteStore
from worker.state.store import StoreError

SCHEMA = Draft202012Validator(wire.schema("approval"), format_checker=Draft202012Validator.FORMAT_CHECKER)
HOUR = timedelta(hours=1)


def asked(number: int = 1, at: datetime = NOON, **changed: Any) -> Approval:
    body = task("quarantine-user", "user", f"user-{number}")
    del body["schema"]
    steps = tuple({"says": f"make key {n} inactive", "irreversible": n == 1} for n in range(7))
    effects = ("user mallory is denied everything", "whatever signs with AKIA is refused")
    return replace(Approval(body, at, at + 4 * HOUR, 1, steps, effects, "undo brings it back", ("arn:executor",)), **changed)


class House:
    """Executors over one store, whose people and archive are told."""

    def __init__(self, store: SqliteStore) -> None:
        self.now, self.store, self.metrics = NOON, store, metrics()
        self.people, self.archive = MemorySink("people", "people:oncall"), MemorySink("file", "file:/x")
        self.outbox = Outbox([self.people, self.archive], store, self.metrics, lambda: self.now, "any")

    def crier(self, owner: str = "one") -> Crier:
        return Crier([self.people, self.archive], self.outbox, self.store, self.metrics, lambda: self.now, owner)

    def told(self) -> list[str]:
        return [orjson.loads(one.body)["target"]["name"] for one in self.people.taken]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SqliteStore.open(":memory:")
    yield House(store)
    await store.close()


async def test_each_that_waits_is_told_once_to_everybody(house: House) -> None:
    """However often and by however many it is looked at; a new process knows what was told."""
    for number in (1, 2):
        await house.store.ask(asked(number))
    await asyncio.gather(*(house.crier(f"process-{n}").tell() for n in range(3)))
    crier = house.crier()
    await crier.tell()
    await house.store.ask(asked(3))
    await crier.tell()
    assert sorted(house.told()) == ["user-1", "user-2", "user-3"]
    assert [one.body for one in house.archive.taken] == [one.body for one in house.people.taken]
    assert {one.what for one in house.people.taken} == {"approval"}


async def test_what_was_asked_again_is_told_again(house: House) -> None:
    """As another item, so that no queue drops it for a copy."""
    await house.store.ask(asked())
    await house.crier().tell()
    await house.store.ask(asked(at=NOON + HOUR), asked())
    await house.crier().tell()
    assert len({one.id for one in house.people.taken}) == 2


async def test_what_is_decided_or_over_is_not_told(house: House) -> None:
    """Nobody is woken for what they cannot answer."""
    await house.store.ask(asked(1))
    await house.store.decide(asked(1), Decision("arn:alice", Answer.NO, "no", NOON))
    await house.store.ask(asked(2, at=NOON - 5 * HOUR))
    await house.crier().tell()
    assert house.told() == []


async def test_a_sink_that_is_down_is_told_later_and_the_other_at_once(house: House) -> None:
    """What it does not take waits in the outbox."""
    house.people.refuse_all = True
    await house.store.ask(asked())
    await house.crier().tell()
    assert (len(house.archive.taken), len(house.people.taken)) == (1, 0)
    house.people.refuse_all = False
    house.now += timedelta(minutes=1)
    await house.outbox.drain(house.people)
    await house.crier().tell()
    assert (len(house.archive.taken), len(house.people.taken)) == (1, 1)


async def test_what_neither_a_sink_nor_the_outbox_took_is_told_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """To those alone who do not know yet."""

    async def full(*_: Any) -> None:
        raise StoreError("disk full")

    house.people.refuse_all = True
    await house.store.ask(asked())
    with monkeypatch.context() as broken:
        broken.setattr(house.store, "post", full)
        await house.crier().tell()
    house.people.refuse_all = False
    await house.crier().tell()
    assert (len(house.archive.taken), len(house.people.taken)) == (1, 1)


async def test_whoever_dies_telling_is_stood_in_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its lease has ended; what a sink took before is not put there again."""
    await house.store.ask(asked())

    async def dies(*_: Any) -> None:
        raise StoreError("the process ends")

    real = house.store.settle
    with monkeypatch.context() as broken:
        broken.setattr(house.store, "settle", lambda keys, owner, now: dies() if "asked|" in keys[0][:6] else real(keys, owner, now))
        with pytest.raises(StoreError):
            await house.crier("one").tell()
    await house.crier("two").tell()
    house.now += LEASE
    await house.crier("two").tell()
    assert (len(house.archive.taken), len(house.people.taken)) == (1, 1)


def told(approval: Approval) -> Any:
    read = orjson.loads(orjson.dumps(wire.approval_as_dict(approval)))
    SCHEMA.validate(read)
    return read


def test_it_says_what_to_agree_to_and_what_to_type() -> None:
    """On the wire whole but for the longest plans, and for people in lines."""
    read = told(asked())
    number = read["id"]
    assert read["commands"]["approve"] == f"trailmend tasks approve {number}"
    assert (read["expires_at"], read["needed"], read["level"], read["steps"]) == ("2026-11-23T16:00:00Z", 1, "high", 7)
    assert brief.title(read) == "APPROVAL WANTED quarantine-user: user user-1 in 000000000000"
    assert brief.text(read).splitlines() == [
        "Because: HIGH A rule",
        "Who: IAMUser user-1",
        "What: CreateAccessKey at 2026-03-01T12:00:00+00:00",
        "Plan: make key 0 inactive",
        "Plan: make key 1 inactive (irreversible)",
        *(f"Plan: make key {n} inactive" for n in (2, 3, 4)),
        "Plan: 2 steps more",
        "Hits: user mallory is denied everything",
        "Hits: whatever signs with AKIA is refused",
        "Undo: undo brings it back",
        "Until: 2026-11-23T16:00:00Z, 1 person has to agree",
        f"Type: trailmend tasks approve {number}",
    ]


def test_the_longest_plan_is_still_a_message() -> None:
    """A thousand steps with thousands of characters each."""
    steps = tuple({"says": "x" * 5000, "irreversible": False} for _ in range(1000))
    read = told(asked(steps=steps, effects=("y" * 5000,)))
    assert (len(read["plan"]), read["steps"]) == (50, 1000)
    assert len(orjson.dumps(read)) < 200_000
    assert "995 steps more" in brief.text(read)


def test_words_of_others_call_nobody() -> None:
    """Names come from records."""
    body = dict(asked().task)
    body["finding"] = {**body["finding"], "actor": {**body["finding"]["actor"], "arn": "@channel\nType: rm -rf /"}}
    text = brief.text(told(asked(task=body)))
    assert "@channel" not in text
    assert len([line for line in text.splitlines() if line.startswith("Type")]) == 1
