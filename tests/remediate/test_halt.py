"""The global stop: each of the three switches, in doubt too; before a task, between two of its calls, and lifted again."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests import fakes
from tests.remediate.scenes import SCENES, Scene, a_bad_user, an_active_key
from tests.remediate.world import World
from worker.model import Verdict
from worker.remediate.guards import Limits
from worker.remediate.halt import ASKED_EVERY, GOES, Halt
from worker.remediate.undo import Ending, Undo

DONE = Verdict(delete=True)
HELD = Verdict(delete=False, reason="stopped", retry_after_seconds=60.0)
LEFT = Verdict(delete=False, reason="stopped")
NAME = "/trailmend/stop"


@dataclass(frozen=True)
class Switch:
    """One of the three ways: the settings that name it, and how it is turned."""

    settings: dict[str, Any]
    turn: Callable[..., Awaitable[None]]


def setting(world: World, folder: Path) -> Switch:
    settings: dict[str, Any] = {}

    async def turn(*, on: bool) -> None:
        settings["stop"] = on  # read when the process starts

    return Switch(settings, turn)


def a_file(world: World, folder: Path) -> Switch:
    path = folder / "stop"

    async def turn(*, on: bool) -> None:
        if on:
            path.touch()
        else:
            path.unlink()

    return Switch({"stop_file": path}, turn)


def a_parameter(world: World, folder: Path) -> Switch:
    async def turn(*, on: bool) -> None:
        ssm = await world.accounts.client("ssm")
        await ssm.put_parameter(Name=NAME, Value="on" if on else "off", Type="String", Overwrite=True)

    return Switch({"stop_parameter": NAME}, turn)


SWITCHES = [setting, a_file, a_parameter]


@pytest.mark.parametrize("switch", SWITCHES)
async def test_while_there_is_a_stop_nothing_is_done_and_then_it_is(
    switch: Callable[[World, Path], Switch], world: World, tmp_path: Path
) -> None:
    """Neither a task nor its undo, nor is a message refused or told of; the metric says 1; after it all goes as if it had not been."""
    way, body = switch(world, tmp_path), json.dumps(await an_active_key(world))
    before = await world.picture()
    await way.turn(on=True)
    for message in (body, "{"):
        assert await world.handle(message, **way.settings) == HELD
    assert (await world.picture(), world.wire.calls, await world.outcomes()) == (before, [], [])
    assert fakes.sample(world.metrics, "tasks_refused_total", reason="not-json") == 0
    assert fakes.sample(world.metrics, "remediation_stopped") == 1
    await way.turn(on=False)
    assert await world.handle(body, **way.settings) == DONE
    assert await world.outcomes() == ["started", "applied"]
    assert fakes.sample(world.metrics, "remediation_stopped") == 0
    after = await world.picture()
    await way.turn(on=True)
    assert await world.undo(**way.settings) == Ending("refused", "stopped")
    assert await world.picture() == after
    await way.turn(on=False)
    assert await world.undo(**way.settings) == Ending("undone")
    assert await world.picture() == before


@pytest.mark.parametrize("switch", [a_file, a_parameter])
async def test_a_stop_holds_between_two_calls(switch: Callable[[World, Path], Switch], world: World, tmp_path: Path) -> None:
    """The first call was made, the second is not; the journal tells it, the message stays, and lifted the rest is done once."""
    way, body = switch(world, tmp_path), json.dumps(await a_bad_user(world))
    await way.turn(on=True)
    await way.turn(on=False)
    iam = await world.accounts.client("iam")
    real = iam.put_user_policy

    async def put_and_stop(**parameters: Any) -> Any:
        answer = await real(**parameters)
        await way.turn(on=True)
        world.now += ASKED_EVERY
        return answer

    iam.put_user_policy = put_and_stop
    assert await world.handle(body, **way.settings) == LEFT
    iam.put_user_policy = real
    assert world.wire.calls == ["put_user_policy"]
    assert await world.outcomes() == ["started", "stopped"]
    assert (await world.journal())[-1]["reason"].startswith("the ")
    assert fakes.sample(world.metrics, "remediations_total", action="quarantine-user", outcome="stopped") == 1
    assert await world.handle(body, **way.settings) == HELD
    await way.turn(on=False)
    world.now += ASKED_EVERY
    assert await world.handle(body, **way.settings) == DONE
    assert world.wire.calls == ["put_user_policy", "update_access_key"]
    assert await world.outcomes() == ["started", "stopped", "started", "applied"]


@pytest.mark.parametrize("scene", SCENES)
async def test_no_action_makes_a_call_while_there_is_a_stop(scene: Scene, world: World, tmp_path: Path) -> None:
    """A stop that comes when all is planned: the line `started` is there, and no call was made."""
    body, stop = json.dumps(await scene(world)), tmp_path / "stop"
    before, real = await world.picture(), world.store.append

    async def append(entry: Any) -> str:
        stop.touch()
        return await real(entry)

    world.store.append = append  # type: ignore[method-assign]
    assert await world.handle(body, stop_file=stop) == LEFT
    assert (await world.picture(), world.wire.calls) == (before, [])
    assert await world.outcomes() == ["started", "stopped"]


async def test_a_stop_holds_an_undo_between_two_calls(world: World, tmp_path: Path) -> None:
    """Left half done, told in the journal, and done to its end once the stop is lifted."""
    body = json.dumps(await a_bad_user(world))
    before = await world.picture()
    await world.handle(body)
    stop = tmp_path / "stop"
    world.wire.meddle = lambda _: stop.touch()
    assert (await world.undo(stop_file=stop)).outcome == "undo-stopped"
    world.wire.meddle = None
    assert (await world.outcomes())[2:] == ["undo-started", "undo-stopped"]
    stop.unlink()
    assert await world.undo(stop_file=stop) == Ending("undone")
    assert await world.picture() == before


async def test_a_stop_after_the_plan_was_shown_holds_too(world: World, tmp_path: Path) -> None:
    """Whoever agreed before it has agreed in vain."""
    await world.handle(json.dumps(await a_bad_user(world)))
    (history,) = await world.histories()
    stop = tmp_path / "stop"
    undo = await Undo.of(history, world.means(stop_file=stop), Limits.of(world.settings))
    assert isinstance(undo, Undo)
    shown: Any = await undo.prospect()
    stop.touch()
    assert (await undo.carry_out(shown.steps)).outcome == "stopped"


async def test_what_people_have_agreed_to_waits_for_the_end_of_a_stop(world: World, tmp_path: Path) -> None:
    """Agreed to before or during it: nothing is done, no pause is counted, and the next look after it does it."""
    stop = tmp_path / "stop"
    await world.wait(json.dumps(await a_bad_user(world)))
    before = await world.picture()
    stop.touch()
    await world.answer()
    waiting = world.waiting(stop_file=stop)
    for _ in range(3):
        await waiting.look()
    assert (await world.picture(), world.wire.calls, await world.outcomes()) == (before, [], ["waiting"])
    stop.unlink()
    await waiting.look()
    assert await world.outcomes() == ["waiting", "started", "applied"]


# In doubt.


async def told(world: World, value: str | None) -> str | None:
    ssm = await world.accounts.client("ssm")
    if value is not None:
        await ssm.put_parameter(Name=NAME, Value=value, Type="String", Overwrite=True)
    return await world.means(stop_parameter=NAME).halt.reason()


@pytest.mark.parametrize("value", [*sorted(GOES), "OFF", " False "])
async def test_these_values_let_work_go_on(value: str, world: World) -> None:
    """Without regard to case and blanks around."""
    assert await told(world, value) is None


@pytest.mark.parametrize("value", ["on", "true", "1", "stop", "of", "false!", "false off", "-", "x" * 4000])
async def test_any_other_value_stops(value: str, world: World) -> None:
    """Whoever mistypes has stopped. The reason names the parameter and what would let work go on."""
    why = str(await told(world, value))
    assert NAME in why
    assert "would let work go on" in why
    assert len(why) < 300


async def test_a_parameter_that_is_missing_or_may_not_be_read_stops(world: World) -> None:
    """And so does one that does not answer; the reason says which."""
    assert "ParameterNotFound" in str(await told(world, None))
    ssm: Any = await world.accounts.client("ssm")
    for error, says in (
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetParameter"), "AccessDenied"),
        (ConnectionError("down"), "down"),
        (TimeoutError(), "no answer within"),
    ):

        async def fails(error: BaseException = error, **_: Any) -> Any:
            raise error

        ssm.get_parameter = fails
        assert says in str(await told(world, None))


async def test_a_file_that_cannot_be_looked_for_stops(world: World, tmp_path: Path) -> None:
    """A name that no file system takes, as one that may not be looked at: nobody knows whether it is there."""
    assert "cannot be looked for" in str(await world.means(stop_file=tmp_path / ("x" * 300)).halt.reason())


async def test_a_link_to_nowhere_is_a_file_and_a_folder_that_is_missing_holds_none(world: World, tmp_path: Path) -> None:
    """What stands at the path counts, not what it leads to."""
    assert await world.means(stop_file=tmp_path / "none" / "stop").halt.reason() is None
    (tmp_path / "stop").symlink_to(tmp_path / "nowhere")
    assert await world.means(stop_file=tmp_path / "stop").halt.reason() is not None


async def test_the_parameter_is_asked_at_most_every_few_seconds(world: World) -> None:
    """Of any number who ask, within five seconds one goes to AWS; then it is asked anew."""
    await told(world, "off")
    ssm: Any = await world.accounts.client("ssm")
    real, asked = ssm.get_parameter, []

    async def get(**parameters: Any) -> Any:
        asked.append(parameters)
        return await real(**parameters)

    ssm.get_parameter = get
    halt: Halt = world.means(stop_parameter=NAME).halt
    for seconds, calls in ((0, 1), (4, 1), (5, 2), (9, 2)):
        world.now = world.now.replace(second=seconds)
        assert await halt.reason() is None
        assert len(asked) == calls
    world.now += timedelta(minutes=1)
    await ssm.put_parameter(Name=NAME, Value="on", Type="String", Overwrite=True)
    assert await halt.reason() is not None
