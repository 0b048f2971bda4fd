"""The store of a fleet keeps what the executor and an undo need of it: on DynamoDB they end as they do on SQLite."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiobotocore.session import AioSession

from tests.remediate.scenes import Scene, a_bad_user, a_lost_fleet, a_weak_policy, differences
from tests.remediate.world import CrashError, World
from tests.state.stores import make_table
from worker.aws import Accounts
from worker.remediate.history import audit, seen
from worker.settings import Settings
from worker.state.dynamodb import DynamoStore

SOME = [a_bad_user, a_lost_fleet, a_weak_policy]
"""A user's policy and key; a profile and its instances in two regions; the account itself."""


@pytest.fixture
async def world(embedded_aws: str, session: AioSession) -> AsyncIterator[World]:
    """An empty account, its table, mode auto."""
    async with Accounts(session, Settings()) as accounts:
        dynamodb = await accounts.client("dynamodb")
        await make_table(dynamodb)
        store: Any = await DynamoStore.open(dynamodb, "trailmend")
        yield World(accounts, store)


@pytest.mark.parametrize("scene", SOME)
async def test_a_task_is_done_and_undone_and_its_calls_are_expected(scene: Scene, world: World) -> None:
    """The state before is back but for what cannot be: a profile has a new id. The journal is whole, and a second undo is refused."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    assert (await world.handle(body)).delete
    done = await world.picture()
    assert done != before
    assert (await world.undo()).outcome == "undone"
    assert await world.picture() == before if scene is not a_lost_fleet else "profile web" not in await world.picture()
    assert await world.outcomes() == ["started", "applied", "undo-started", "undone"]
    assert (await audit(world.store.journal())).fault is None
    (history,) = await world.histories()
    assert isinstance(history.done(), str)
    known = await seen(history.request_ids, world.store)
    assert known.awaited == len(history.request_ids) == len(world.wire.calls)
    assert (await world.handle(body)).delete
    assert differences(before, await world.picture()) == {} or scene is a_lost_fleet


async def test_an_undo_that_died_does_the_rest(world: World) -> None:
    """Between its two calls; nothing is done twice."""
    await world.handle(json.dumps(await a_bad_user(world)))
    made = len(world.wire.calls)
    world.wire.die_after = made
    with pytest.raises(CrashError):
        await world.undo()
    world.pass_lease()
    world.wire.die_after = None
    assert (await world.undo()).outcome == "undone"
    assert sorted(world.wire.calls[made:]) == ["delete_user_policy", "update_access_key"]
    assert (await audit(world.store.journal())).fault is None
