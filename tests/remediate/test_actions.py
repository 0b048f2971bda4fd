"""Every action on the embedded AWS: what changes and that nothing else does, in shadow nothing, a second time nothing, and each refusal."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fakes
from tests.remediate.scenes import (
    SCENES,
    Body,
    Scene,
    a_bad_user,
    a_lost_fleet,
    a_lost_role,
    a_password,
    a_user_without_mfa,
    a_weak_policy,
    an_active_key,
    differences,
    inactive_keys,
    last_used,
    no_policy,
    restore,
    stolen_sessions,
    unused_keys,
)
from tests.remediate.world import NOW, TRUST, CrashError, World, task
from worker.model import Verdict
from worker.modes import Mode
from worker.remediate.actions import enforce_password_policy
from worker.remediate.actions.enforce_mfa import POLICY
from worker.remediate.actions.enforce_password_policy import raised
from worker.remediate.steps import Clients, Refusal
from worker.remediate.tasks import TaskReader

DONE = Verdict(delete=True)


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


async def test_quarantine_denies_everything_and_ends_the_keys(world: World) -> None:
    """Policy and active key of this user; the inactive key and the bystander stay as they are; the policy comes first."""
    body = await a_bad_user(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    changed = differences(before, await world.picture())
    deny = {"Version": "2012-10-17", "Statement": [{"Sid": "DenyAll", "Effect": "Deny", "Action": "*", "Resource": "*"}]}
    assert changed.pop("user mallory/policies/TrailmendQuarantine") == (None, deny)
    assert list(changed.values()) == [("Active", "Inactive")]
    assert world.wire.calls == ["put_user_policy", "update_access_key"]


async def test_revoking_denies_what_was_issued_before_now(world: World) -> None:
    """The condition is the console's; a revocation since the task was made is as wanted, an older one is moved forward and never back."""
    body = await stolen_sessions(world)
    before = await world.picture()
    world.now = NOW + timedelta(minutes=3)
    assert await world.handle(json.dumps(body)) == DONE
    statement = {"Sid": "DenyOlderSessions", "Effect": "Deny", "Action": "*", "Resource": "*"}
    deny = {
        "Version": "2012-10-17",
        "Statement": [{**statement, "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2026-03-01T12:03:00.000Z"}}}],
    }
    revoked = await world.picture()
    assert differences(before, revoked) == {"role web-role/policies/TrailmendRevokeOlderSessions": (None, deny)}
    again = [
        task(
            "revoke-role-sessions",
            "role",
            "web-role",
            finding=f"0f0e0d0c-0000-5000-8000-00000000002{minutes}",
            created_at=NOW + timedelta(minutes=minutes),
        )
        for minutes in (2, 5)
    ]
    world.now = NOW + timedelta(minutes=6)
    await world.handle(json.dumps(again[0]))
    assert await world.picture() == revoked
    await world.handle(json.dumps(again[1]))
    condition = (await world.picture())["role web-role"]["policies"]["TrailmendRevokeOlderSessions"]["Statement"][0]["Condition"]
    assert condition == {"DateLessThan": {"aws:TokenIssueTime": "2026-03-01T12:06:00.000Z"}}


async def test_a_task_from_a_clock_ahead_of_ours_is_done_and_verified(world: World) -> None:
    """Four minutes ahead, to the millisecond: sessions until that moment are revoked, at once and without waiting."""
    await world.role()
    made = NOW + timedelta(minutes=4, microseconds=123_999)
    assert await world.handle(json.dumps(task("revoke-role-sessions", "role", "web-role", created_at=made))) == DONE
    (statement,) = (await world.picture())["role web-role"]["policies"]["TrailmendRevokeOlderSessions"]["Statement"]
    assert statement["Condition"]["DateLessThan"]["aws:TokenIssueTime"] == "2026-03-01T12:04:00.123Z"
    assert (await world.outcomes(), world.slept) == (["started", "applied"], [])


async def test_a_password_policy_is_raised_and_never_lowered(world: World) -> None:
    """What is stricter than asked stays, what is not asked stays, and the rest is as asked."""
    body = await a_weak_policy(world)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert differences(before, await world.picture()) == {
        "password policy/RequireSymbols": (False, True),
        "password policy/MaxPasswordAge": (365, 90),
        "password policy/PasswordReusePrevention": (None, 24),
    }


async def test_the_policy_of_another_account_is_refused(world: World) -> None:
    """A target that is not the account itself, should one ever come so far: the action's own look tells."""
    body = task("enforce-password-policy", "account", "111111111111", {"symbols": True})
    read = TaskReader([enforce_password_policy.EnforcePasswordPolicy()]).read(json.dumps(body))
    plan = await read.action.plan(read, Clients(world.accounts, "000000000000", world.store.journal, NOW))
    assert isinstance(plan, Refusal)
    assert plan.reason == "other-account"


async def test_where_there_was_no_policy_iams_own_is_not_lowered(world: World) -> None:
    """An account without a policy asks for 8 characters of three kinds, so one that is made for another reason asks for that too."""
    await world.handle(json.dumps(await no_policy(world)))
    made = await world.password_policy()
    assert (made["MinimumPasswordLength"], made["PasswordReusePrevention"], made["ExpirePasswords"]) == (8, 24, False)
    assert [made[f"Require{kind}"] for kind in ("Numbers", "UppercaseCharacters", "LowercaseCharacters", "Symbols")] == [True] * 3 + [False]


LEAST = enforce_password_policy.EnforcePasswordPolicy.params["properties"]
FLAGS = enforce_password_policy.FLAGS


@given(
    live=st.none()
    | st.fixed_dictionaries(
        {"MinimumPasswordLength": st.integers(6, 128), **dict.fromkeys(FLAGS.values(), st.booleans())},
        optional={"PasswordReusePrevention": st.integers(1, 24), "MaxPasswordAge": st.integers(1, 1095), "HardExpiry": st.just(value=True)},
    ),
    least=st.fixed_dictionaries(
        {},
        optional={
            "minimum_length": st.integers(6, 128),
            "reuse_prevention": st.integers(1, 24),
            "max_age_days": st.integers(1, 1095),
            **dict.fromkeys(FLAGS, st.just(value=True)),
        },
    ),
)
def test_no_rule_of_any_policy_is_lowered(live: dict[str, Any] | None, least: dict[str, Any]) -> None:
    """For any policy and any minimum the result is at least as strict as both, takes no more from either, and raising it again changes nothing."""
    assert set(least) <= set(LEAST)
    made = raised(live, least)
    was: dict[str, Any] = {**enforce_password_policy.WITHOUT} if live is None else live
    assert made["MinimumPasswordLength"] == max(was["MinimumPasswordLength"], least.get("minimum_length", 0))
    assert made.get("PasswordReusePrevention", 0) == max(was.get("PasswordReusePrevention", 0), least.get("reuse_prevention", 0))
    assert made.get("MaxPasswordAge", 9999) == min(was.get("MaxPasswordAge", 9999), least.get("max_age_days", 9999))
    assert all(made[name] == (was.get(name, False) or asked in least) for asked, name in FLAGS.items())
    assert made.get("HardExpiry") == was.get("HardExpiry")
    assert raised(made, least) == made


@pytest.mark.parametrize(("days_ago", "idle"), [(None, True), (200, True), (91, True), (90.9, False), (90, False), (3, False)])
async def test_a_key_in_use_is_left_alone(days_ago: float | None, *, idle: bool, world: World) -> None:
    """Never used, or last used N days and the margin of a day ago: inactive; anything later: as it is."""
    body = await unused_keys(world)
    keys = list((await world.picture())["user mallory"]["keys"])
    used = {} if days_ago is None else dict.fromkeys(keys, world.now - timedelta(days=days_ago))
    await last_used(world, used)
    assert await world.handle(json.dumps(body)) == DONE
    assert (await world.picture())["user mallory"]["keys"] == dict.fromkeys(keys, "Inactive" if idle else "Active")
    assert await world.outcomes() == (["started", "applied"] if idle else ["already-done"])


@pytest.mark.parametrize("scene", [unused_keys, inactive_keys])
async def test_a_young_key_is_not_unused(scene: Scene, world: World) -> None:
    """Never used, but made less than N days ago: left alone, active or not."""
    body = await scene(world)
    before = await world.picture()
    await world.handle(json.dumps({**body, "params": {"days": 101}}))
    assert await world.picture() == before
    assert await world.outcomes() == ["already-done"]


async def test_only_inactive_keys_are_deleted(world: World) -> None:
    """Of two old keys the inactive one goes and the active one stays; the plan says what it knows, and that it is for good."""
    body = await inactive_keys(world)
    iam = await world.accounts.client("iam")
    gone, stays = (await world.picture())["user mallory"]["keys"]
    await iam.update_access_key(UserName="mallory", AccessKeyId=stays, Status="Active")
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert differences(before, await world.picture()) == {f"user mallory/keys/{gone}": ("Inactive", None)}
    (step,) = (await world.journal())[0]["plan"]
    assert step["irreversible"]
    assert "for good (inactive now, since when nobody can tell; made " in step["says"]


async def test_a_key_made_active_at_the_last_moment_is_not_deleted(world: World) -> None:
    """Between the plan and the call its user turns the second key on: the first goes, the second stays, and the task fails."""
    body = await inactive_keys(world)
    iam = await world.accounts.client("iam")
    keys = list((await world.picture())["user mallory"]["keys"])
    real = iam.delete_access_key

    async def slow(**parameters: Any) -> Any:
        answer = await real(**parameters)
        await iam.update_access_key(UserName="mallory", AccessKeyId=keys[1], Status="Active")
        return answer

    iam.delete_access_key = slow
    assert await world.handle(json.dumps(body)) == Verdict(delete=False, reason="failed")
    assert (await world.picture())["user mallory"]["keys"] == {keys[1]: "Active"}
    assert (await world.journal())[-1]["reason"].startswith("live state no longer asks for it: delete access key")


async def test_the_journal_decides_since_when_a_key_is_inactive(world: World) -> None:
    """A key that Trailmend made inactive stays until N days after, though it has been idle far longer; then it goes."""
    deactivate = await unused_keys(world)
    await world.handle(json.dumps(deactivate))
    world.settings = replace(world.settings, allow_irreversible=True)
    keys = (await world.picture())["user mallory"]["keys"]
    for number, days in enumerate((89, 90)):
        world.now = datetime.fromisoformat(deactivate["created_at"]) + timedelta(days=days)
        finding = f"0f0e0d0c-0000-5000-8000-00000000003{number}"
        body = task("delete-inactive-access-keys", "user", "mallory", {"days": 90}, finding=finding, created_at=world.now)
        assert await world.handle(json.dumps(body)) == DONE
        assert (await world.picture())["user mallory"]["keys"] == (keys if days == 89 else {})
    assert "made inactive by Trailmend on " in (await world.journal())[-1]["plan"][0]["says"]


async def test_what_cannot_be_undone_is_not_done_unless_the_operator_allows_it(world: World) -> None:
    """Mode auto alone is not enough: it is shadowed once, with its plan, and done when the setting is there."""
    body = json.dumps(await inactive_keys(world))
    before = await world.picture()
    for _ in range(2):
        assert await world.handle(body, allow_irreversible=False) == DONE
    assert await world.picture() == before
    assert await world.outcomes() == ["shadowed"]
    assert (await world.journal())[0]["reason"].startswith("irreversible: ")
    assert await world.handle(body) == DONE
    assert (await world.outcomes())[1:] == ["started", "applied"]


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


async def sessions_of_nothing(world: World) -> Body:
    return task("revoke-role-sessions", "role", "nobody")


async def sessions_of_an_aws_role(world: World) -> Body:
    iam = await world.accounts.client("iam")
    await iam.create_role(RoleName="sso", Path="/aws-reserved/sso.amazonaws.com/", AssumeRolePolicyDocument=json.dumps(TRUST))
    return task("revoke-role-sessions", "role", "sso")


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


async def restore_over_an_empty_one(world: World) -> Body:
    await world.role()
    await world.profile(role=None)
    return restore([])


async def restore_over_a_whole_one(world: World) -> Body:
    """Somebody made it again with its role; the instance still points at the one that was deleted."""
    await world.role()
    await world.profile()
    instance = await world.instance()
    await world.lose_profile()
    await world.profile()
    return restore([(instance, "us-east-1")])


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (no_user, "user-gone"),
        (no_key_user, "user-gone"),
        (the_key_of_another, "key-gone"),
        (sessions_of_nothing, "role-gone"),
        (sessions_of_an_aws_role, "aws-own-role"),
        (reattach_to_nothing, "profile-gone"),
        (reattach_beside_another, "other-role"),
        (restore_without_role, "role-gone"),
        (restore_of_unknown_role, "role-unknown"),
        (restore_with_closed_role, "role-closed-to-ec2"),
        (restore_over_another_role, "name-taken"),
        (restore_over_another_path, "name-taken"),
        (restore_over_an_empty_one, "name-taken"),
        (restore_over_a_whole_one, "name-taken"),
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
