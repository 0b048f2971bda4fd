"""What a SIGKILL between any two calls leaves behind: nothing that the next process does not finish, and a journal that is whole."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.remediate.lives import Life
from tests.remediate.scenes import SCENES, Scene
from tests.remediate.world import World
from worker.remediate.history import audit
from worker.state.sqlite import SqliteStore


@pytest.mark.parametrize("scene", SCENES)
async def test_killed_at_every_call_an_action_comes_to_the_same_end(scene: Scene, world: World, tmp_path: Path) -> None:
    """Killed before the first call, then after each with its answer lost: no call is made twice, and a last life has nothing left to do."""
    body = json.dumps(await scene(world))
    life = Life(body, world.settings, tmp_path / "state.db", tmp_path / "calls", world.now, dict(os.environ))
    assert replace(life, die_before=0).lived() == -9
    assert not life.calls.exists()
    for number in range(20):
        life = replace(life, now=life.now + timedelta(minutes=6), die_after=number)
        ended = life.lived()
        if ended != -9:
            break
    assert ended == 0
    store = await SqliteStore.open(str(life.state))
    lines = [entry async for entry, _, _ in store.journal()]
    assert (await audit(store.journal())).fault is None
    await store.close()
    assert [line.outcome for line in lines] == ["started"] * (number + 1) + ["already-done"]
    steps = lines[0].body["plan"]
    assert len(life.calls.read_text().split()) == number == len(steps)
    assert lines[-1].body["after"] != lines[0].body["before"]
    settled = await world.picture()
    assert replace(life, die_after=None).lived() == 0
    assert await world.picture() == settled
