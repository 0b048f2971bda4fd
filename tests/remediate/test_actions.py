"""Every action on the embedded AWS: what changes and that nothing else does, in shadow nothing, a second time nothing, and each refusal."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests import fakes
from tests.remediate.world import TRUST, CrashError, World, task
from worker.model import Verdict
from worker.remediate.actions.enforce_mfa import POLICY
from worker.settings import Mode

Body = dict[str, Any]
Scene = Callable[[World], Awaitable[Body]]
DONE = Verdict(delete=True)


async def an_active_key(world: World) -> Body:
    key = await world.user()
    await world.user("bystander")
    return task("deactivate-access-key", "access-key", key, {"user": "mallory"})


async def a_password(world: World) -> Body:
    await world.user()
    await world.user("bystander")
    return task("require-password-reset", "user", "mallory")


async def a_user_without_mfa(world: World) -> Body:
    await world.user()
    return task("enforce-mfa", "user", "mallory", arn="arn:aws:iam::000000000000:user/mallory")


async def a_lost_role(world: World) -> Body:
    await world.role()
    await world.profile(role=None)
    await world.instance()
    return task("reattach-role", "instance-profile", "web", {"role": "web-role"})


def restore(instances: list[tuple[str, str]], **changed: Any) -> Body:
    tags = {"team": "web", "aws:cloudformation:stack-name": "fleet"}
    listed = [{"instance_id": i, "region": region, "state": "running"} for i, region in instances]
    return task(
        "restore-instance-profile",
        "instance-profile",
        "web",
        {"path": "/fleet/", "role": "web-role", "tags": tags, "instances": listed, **changed},
    )


async def a_lost_fleet(world: World) -> Body:
    """Two running instances in two regions, a stopped one, one whose association is gone, one on another profile, one unknown by now."""
    await world.role()
    await world.profile()
    await world.profile("other")
    users = [
        (await world.instance(), "us-east-1"),
        (await world.instance(region="eu-west-1"), "eu-west-1"),
        (await world.instance(stopped=True), "us-east-1"),
    ]
    await world.lose_profile()
    users += [
        (await world.instance(profile=None), "us-east-1"),
        (await world.instance(profile="other"), "us-east-1"),
        ("i-0123456789abcdef0", "us-east-1"),
    ]
    return restore(users)


SCENES: list[Scene] = [an_active_key, a_password, a_user_without_mfa, a_lost_role, a_lost_fleet]


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same, by where it stands."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found.update({f"{name}/{key}": pair for key, pair in differences(one, other).items()})
        elif one != other:
            found[name] = (one, other)
    return found


async def test_deactivate_access_key_turns_one_key_off(world: World) -> None:
    """Of all users and keys, this key's status alone changes."""
    body = await an_active_key(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert differences(before, await world.picture()) == {f"user mallory/keys/{body['target']['name']}": ("Active", "Inactive")}
    assert await world.outcomes() == ["started", "applied"]


async def test_require_password_reset_marks_one_login_profile(world: World) -> None:
    """The login profile stays and asks for a new password; nothing else changes."""
    body = await a_password(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert differences(before, await world.picture()) == {"user mallory/login/PasswordResetRequired": (False, True)}


async def test_require_password_reset_makes_no_password(world: World) -> None:
    """A user without a console password is refused and gets none."""
    await world.user(password=False)
    before = await world.picture()
    assert await world.handle(json.dumps(task("require-password-reset", "user", "mallory"))) == DONE
    assert await world.picture() == before
    assert await world.outcomes() == ["refused"]
    assert (await world.journal())[0]["reason"].startswith("no-console-password")


async def test_enforce_mfa_puts_one_inline_policy(world: World) -> None:
    """The policy is what the file says, and fits IAM's 2,048 characters beside others."""
    body = await a_user_without_mfa(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert differences(before, await world.picture()) == {"user mallory/policies/TrailmendEnforceMfa": (None, POLICY)}
    assert len(json.dumps(POLICY, separators=(",", ":"))) < 600


async def test_enforce_mfa_sets_a_weakened_policy_right(world: World) -> None:
    """A policy of the same name that says something else is replaced; another policy of the user stays."""
    await world.user()
    iam = await world.accounts.client("iam")
    weak = json.dumps({"Version": "2012-10-17", "Statement": []})
    for name in ("TrailmendEnforceMfa", "Own"):
        await iam.put_user_policy(UserName="mallory", PolicyName=name, PolicyDocument=weak)
    await world.handle(json.dumps(task("enforce-mfa", "user", "mallory")))
    policies = (await world.picture())["user mallory"]["policies"]
    assert policies == {"TrailmendEnforceMfa": POLICY, "Own": json.loads(weak)}


async def test_reattach_role_puts_the_role_back(world: World) -> None:
    """The profile keeps its id, so instances are not touched."""
    body = await a_lost_role(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert differences(before, await world.picture()) == {"profile web/roles": ([], ["web-role"])}


async def test_restore_brings_profile_role_tags_and_instances_back(world: World) -> None:
    """Path, role and tags (but AWS's own) are as before; the two running, the stopped and the bare instance use the new profile."""
    body = await a_lost_fleet(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    after = await world.picture()
    profile = after["profile web"]
    assert {**profile, "id": ""} == {"id": "", "path": "/fleet/", "roles": ["web-role"], "tags": [{"Key": "team", "Value": "web"}]}
    ids = [one["instance_id"] for one in body["params"]["instances"]]
    given = ("arn:aws:iam::000000000000:instance-profile/fleet/web", profile["id"])
    assert {one: after["associations"].get(one) for one in ids[:4]} == dict.fromkeys(ids[:4], given)
    assert after["associations"][ids[4]] == before["associations"][ids[4]]
    assert set(differences(before, after)) == {"profile web", *(f"associations/{one}" for one in ids[:4])}
    calls = ["create_instance_profile", "add_role_to_instance_profile", "replace_iam_instance_profile_association"]
    assert world.wire.calls[:3] == calls
    assert world.wire.calls.count("replace_iam_instance_profile_association") == 2
    assert world.wire.calls.count("disassociate_iam_instance_profile") == 1
    assert world.wire.calls.count("associate_iam_instance_profile") == 2


async def test_the_journal_tells_the_whole_change(world: World) -> None:
    """Before the first call a line with the plan; after the last one with state before and after, request ids and who we are."""
    body = await a_lost_fleet(world)
    await world.handle(json.dumps(body))
    started, applied = await world.journal()
    assert [step["api"] for step in started["plan"]][:2] == ["CreateInstanceProfile", "AddRoleToInstanceProfile"]
    assert started["request_ids"] == []
    assert applied["task"]["id"] == body["id"]
    assert applied["mode"] == "auto"
    assert applied["before"]["profile"] is None
    assert applied["after"]["profile"]["roles"] == ["web-role"]
    assert {one["profile_id"] for one in applied["after"]["instances"]} >= {applied["after"]["profile"]["id"]}
    assert len(applied["request_ids"]) == len(applied["plan"]) == len(world.wire.calls)
    assert all(applied["request_ids"])
    assert applied["executor"]["account"] == "000000000000"
    assert all(step["says"] for step in applied["plan"])


@pytest.mark.parametrize("scene", SCENES)
async def test_shadow_changes_nothing_and_says_what_it_would_do(scene: Scene, world: World) -> None:
    """No changing call reaches AWS; the journal has the plan; and the right to act is not used up by telling."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    assert await world.handle(body, remediation_mode=Mode.SHADOW) == DONE
    assert await world.picture() == before
    assert world.wire.calls == []
    (told,) = await world.journal()
    assert told["plan"]
    assert await world.outcomes() == ["shadowed"]
    assert await world.handle(body, remediation_mode=Mode.SHADOW) == DONE
    assert await world.outcomes() == ["shadowed"]
    await world.handle(body)
    assert await world.outcomes() == ["shadowed", "started", "applied"]


@pytest.mark.parametrize("scene", SCENES)
async def test_a_second_delivery_does_nothing_and_is_counted(scene: Scene, world: World) -> None:
    """However late it comes: past the age gate it is still known as done."""
    body = await scene(world)
    await world.handle(json.dumps(body))
    calls, journal, after = list(world.wire.calls), await world.outcomes(), await world.picture()
    for _ in range(2):
        assert await world.handle(json.dumps(body)) == DONE
        world.now = world.now.replace(year=2027)
    assert (world.wire.calls, await world.outcomes()) == (calls, journal)
    assert await world.picture() == after
    assert fakes.sample(world.metrics, "remediations_total", action=body["action"], outcome="duplicate") == 2


@pytest.mark.parametrize("scene", SCENES)
async def test_what_is_already_as_wanted_is_left(scene: Scene, world: World) -> None:
    """Another finding asks for the same: no call is made, and the journal says that there was nothing to do."""
    body = await scene(world)
    await world.handle(json.dumps(body))
    calls = list(world.wire.calls)
    other = task(
        body["action"], body["target"]["type"], body["target"]["name"], body["params"], finding="0f0e0d0c-0000-5000-8000-000000000002"
    )
    assert await world.handle(json.dumps(other)) == DONE
    assert world.wire.calls == calls
    assert await world.outcomes() == ["started", "applied", "already-done"]


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("scene", SCENES)
async def test_a_crash_at_any_call_is_taken_up_where_it_stopped(scene: Scene, lost_answer: bool, world: World) -> None:
    """Die at each call in turn, before it and after it, in one life after another: no call is made twice and the end is the same."""
    body = json.dumps(await scene(world))
    crashes = 0
    while True:
        done = len(world.wire.calls)
        world.wire.die_after = done if lost_answer else None
        # Before each call: die once at the first that this life would make, then let one through.
        world.wire.die_before = None if lost_answer else done + (1 if crashes else 0)
        try:
            verdict = await world.handle(body)
        except CrashError:
            crashes += 1
            assert crashes < 20
            assert (await world.handle(body)).reason == "busy"
            world.pass_lease()
            continue
        break
    assert verdict == DONE
    steps = (await world.journal())[0]["plan"]
    assert crashes == len(steps)
    assert len(world.wire.calls) == len(steps)
    outcomes = await world.outcomes()
    assert outcomes[-1] == ("already-done" if lost_answer else "applied")
    assert set(outcomes[:-1]) == {"started"}
    state = (await world.journal())[-1]["after"]
    assert state
    calls = list(world.wire.calls)
    assert await world.handle(body) == DONE
    assert world.wire.calls == calls


async def test_a_call_that_eventual_consistency_fails_is_tried_again(world: World) -> None:
    """EC2 does not know the new profile for two tries: it is waited for, in growing waits, and then done."""
    body = await a_lost_fleet(world)
    iam = await world.accounts.client("iam")
    ec2 = await world.accounts.client("ec2")
    failing = iter([True, True, False])

    def meddle(name: str) -> None:
        if name == "replace_iam_instance_profile_association" and next(failing, False):
            raise ec2.exceptions.ClientError(
                {"Error": {"Code": "InvalidParameterValue", "Message": "Invalid IAM Instance Profile name"}}, name
            )
        if name == "add_role_to_instance_profile" and not world.slept:
            raise iam.exceptions.ClientError({"Error": {"Code": "NoSuchEntity", "Message": "not yet"}}, name)

    world.wire.meddle = meddle
    assert await world.handle(json.dumps(body)) == DONE
    assert world.slept == [1.0, 1.0, 2.0]
    assert await world.outcomes() == ["started", "applied"]


# Refusals.


async def no_user(world: World) -> Body:
    return task("enforce-mfa", "user", "nobody")


async def no_key_user(world: World) -> Body:
    return task("deactivate-access-key", "access-key", "AKIA0123456789ABCDEF", {"user": "nobody"})


async def the_key_of_another(world: World) -> Body:
    key = await world.user("victim")
    await world.user()
    return task("deactivate-access-key", "access-key", key, {"user": "mallory"})


async def reattach_to_nothing(world: World) -> Body:
    await world.role()
    return task("reattach-role", "instance-profile", "web", {"role": "web-role"})


async def reattach_beside_another(world: World) -> Body:
    await world.role()
    await world.role("other")
    await world.profile(role="other")
    return task("reattach-role", "instance-profile", "web", {"role": "web-role"})


async def restore_without_role(world: World) -> Body:
    instance = await world.instance(profile=None)
    return restore([(instance, "us-east-1")])


async def restore_of_unknown_role(world: World) -> Body:
    return restore([], role=None)


async def restore_with_closed_role(world: World) -> Body:
    lambda_only = {
        **TRUST,
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    await world.role(trust=lambda_only)
    return restore([])


async def restore_over_another_role(world: World) -> Body:
    await world.role()
    await world.role("other")
    await world.profile(role="other")
    return restore([])


async def restore_over_another_path(world: World) -> Body:
    await world.role()
    await world.profile(path="/")
    return restore([])


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (no_user, "user-gone"),
        (no_key_user, "user-gone"),
        (the_key_of_another, "key-gone"),
        (reattach_to_nothing, "profile-gone"),
        (reattach_beside_another, "other-role"),
        (restore_without_role, "role-gone"),
        (restore_of_unknown_role, "role-unknown"),
        (restore_with_closed_role, "role-closed-to-ec2"),
        (restore_over_another_role, "name-taken"),
        (restore_over_another_path, "name-taken"),
    ],
)
async def test_each_refusal_touches_nothing_and_is_journaled(scene: Scene, reason: str, world: World) -> None:
    """The message is deleted, for waiting would not help, and the journal tells why in words."""
    body = await scene(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert await world.picture() == before
    assert world.wire.calls == []
    assert await world.outcomes() == ["refused"]
    assert (await world.journal())[0]["reason"].startswith(f"{reason}: ")
    assert fakes.sample(world.metrics, "remediations_total", action=body["action"], outcome="refused") == 1
