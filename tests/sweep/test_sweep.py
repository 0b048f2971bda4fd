"""A sweep in trouble: what fails spoils nobody else, what was cut short is taken up again, and nothing is done that was not shown."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.remediate.world import CrashError, Wire, WiredAccounts
from tests.sweep.estate import ACCOUNT, Estate, Use, user
from worker.enrich.call_budget import CallBudget, Rate
from worker.remediate.actions.enforce_mfa import POLICY_NAME
from worker.remediate.attempt import LEASE
from worker.remediate.guards import Limits
from worker.remediate.history import histories
from worker.remediate.steps import Plan
from worker.remediate.undo import Undo
from worker.settings import Settings
from worker.sweep.pace import TRIES, PacedAccounts
from worker.sweep.sweep import Row, Survey
from worker.sweep.swept import INACTIVE_KEYS, MFA, PASSWORD_POLICY, PASSWORD_RESET, UNUSED_KEYS


def rows(survey: Survey) -> list[tuple[str, str, str]]:
    """(user, action, verdict) in the order shown."""
    return [(row.want.target.name, row.want.action, row.prospect.verdict) for row in survey.rows]


def endings(done: list[Row]) -> dict[tuple[str, str], str]:
    return {(row.want.target.name, row.want.action): row.ending.outcome for row in done if row.ending is not None}


async def three(estate: Estate) -> None:
    """Users with a password each, and without MFA."""
    await estate.seed([user(name, estate.now, password=1) for name in ("ann", "bob", "cid")])


async def test_one_user_who_cannot_be_read_spoils_only_itself(estate: Estate) -> None:
    """It is told with AWS's words; the others are planned."""
    await three(estate)
    await estate.trouble(denied=[["ListMFADevices", "bob"]])
    survey = await estate.sweep(MFA).survey([ACCOUNT])
    assert rows(survey) == [("ann", MFA, "planned"), ("cid", MFA, "planned")]
    ((account, name, why),) = [(one.account, one.user, one.why) for one in survey.unread]
    assert (account, name) == (ACCOUNT, "bob")
    assert "AccessDenied" in why


async def test_one_user_who_cannot_be_mended_spoils_only_itself_and_the_next_sweep_does_it(estate: Estate) -> None:
    """Failed in the journal; nothing is done twice."""
    await three(estate)
    await estate.trouble(denied=[["PutUserPolicy", "bob"]])
    _, done = await estate.swept(estate.sweep(MFA))
    assert endings(done) == {("ann", MFA): "applied", ("bob", MFA): "failed", ("cid", MFA): "applied"}
    await estate.trouble()
    _, done = await estate.swept(estate.sweep(MFA))
    assert endings(done) == {("bob", MFA): "applied"}
    assert Counter(await estate.outcomes()) == {"started": 4, "applied": 3, "failed": 1}
    assert all(POLICY_NAME in held for held in (await estate.policies()).values())


async def test_an_account_whose_policy_or_users_cannot_be_read_is_told(estate: Estate) -> None:
    """Without the policy no password is judged; without the list nobody is looked at."""
    await three(estate)
    await estate.trouble(denied=[["GetAccountPasswordPolicy", None]])
    survey = await estate.sweep().survey([ACCOUNT])
    assert {action for _, action, _ in rows(survey)} == {MFA}
    assert [(one.user, one.why.split(":")[0]) for one in survey.unread] == [(None, "the password policy")]
    await estate.trouble(denied=[["ListUsers", None]])
    survey = await estate.sweep(MFA).survey([ACCOUNT])
    assert (rows(survey), len(survey.unread)) == ([], 1)


class Stingy(CallBudget):
    """Has everybody wait once before each call, and counts those it lets through."""

    asked, granted = 0, 0

    def take(self, now: float) -> float:
        self.asked += 1
        wait = 0.001 if self.asked % 2 else super().take(now)
        self.granted += wait == 0
        return wait


async def test_each_try_of_each_call_keeps_to_the_pace_and_throttling_slows_it_down(estate: Estate) -> None:
    """None is made without leave, pages and tries again among them; what is throttled is tried again later, and all is done."""
    await three(estate)
    async with PacedAccounts(estate.accounts.session, Settings(), Rate(100, 100)) as accounts:
        estate.accounts = accounts
        await accounts.client("iam")
        budget = accounts._paces[ACCOUNT]._budget = Stingy(Rate(100, 100), asyncio.get_running_loop().time())
        await estate.trouble(throttle_every=9)
        _, done = await estate.swept(estate.sweep(MFA))
        assert set(endings(done).values()) == {"applied"}
        calls = len(await estate.trouble())
        assert budget.granted == calls > 18
        assert budget.rate < 100


async def test_the_guards_of_every_action_hold(estate: Estate) -> None:
    """Root's name, exempt patterns on live ARNs, and what could not be undone; each with its reason."""
    await estate.strong()
    idle: dict[str, Use] = {"0000000000000001": ("Inactive", 99, None)}
    await estate.seed(
        [
            user("ann", estate.now, keys=idle),
            user("root", estate.now, password=1),
            user("breakglass", estate.now, path="/safe/", password=1),
        ]
    )
    sweep = estate.sweep(exempt_principals=("arn:aws:iam::*:user/safe/*",))
    survey, done = await estate.swept(sweep)
    assert rows(survey) == [("ann", INACTIVE_KEYS, "withheld"), ("breakglass", MFA, "exempt"), ("root", MFA, "refused")]
    why = [row.prospect.why or "" for row in survey.rows]
    assert [one.split(":")[0] for one in why] == ["irreversible", "exempt", "root"]
    assert (done, await estate.outcomes()) == ([], [])
    assert len(survey.rows[0].steps) == 1


async def test_what_was_not_shown_is_not_done(estate: Estate) -> None:
    """Between the plan and the yes a second key has gone idle, a user has got MFA, and one has gone."""
    await estate.strong()
    await estate.seed(
        [
            user("ann", estate.now, keys={"0000000000000001": ("Active", 99, None)}),
            user("bob", estate.now, password=1),
            user("cid", estate.now, password=1),
        ]
    )
    sweep = estate.sweep()
    survey = await sweep.survey([ACCOUNT])
    iam = await estate.accounts.client("iam")
    await estate.seed(
        [user("ann", estate.now, keys={"0000000000000002": ("Active", 99, None)}), user("bob", estate.now, password=1, mfa=True)]
    )
    await iam.delete_login_profile(UserName="cid")
    await iam.delete_user(UserName="cid")
    done = await sweep.carry_out(survey, asyncio.Event())
    assert endings(done) == {("ann", UNUSED_KEYS): "refused", ("bob", MFA): "already-done", ("cid", MFA): "refused"}
    assert next(row.ending.reason for row in done if row.ending) == (
        "changed-since-shown: live state asks for what was not agreed to: "
        f"make access key AKIA0000000000000002 of user ann inactive (made {survey.rows[0].steps[0].says[-23:-13]}, never used)"
    )
    assert set((await estate.statuses("ann")).values()) == {"Active"}


async def test_a_key_made_inactive_by_a_sweep_is_not_deleted_by_it(estate: Estate) -> None:
    """Nor by the next one: the journal tells since when it is inactive. The one that was inactive is deleted."""
    await estate.strong()
    keys: dict[str, Use] = {"0000000000000001": ("Active", 99, None), "0000000000000002": ("Inactive", 99, None)}
    await estate.seed([user("ann", estate.now, keys=keys)])
    _, done = await estate.swept(estate.sweep(allow_irreversible=True))
    assert endings(done) == {("ann", UNUSED_KEYS): "applied", ("ann", INACTIVE_KEYS): "applied"}
    assert await estate.statuses("ann") == {"AKIA0000000000000001": "Inactive"}
    assert rows(await estate.sweep(allow_irreversible=True).survey([ACCOUNT])) == []


async def test_without_a_strong_policy_nobody_is_asked_for_a_new_password(estate: Estate) -> None:
    """AWS refuses to raise it, so a new password would be as weak as the old one."""
    await three(estate)
    await estate.trouble(denied=[["UpdateAccountPasswordPolicy", None]])
    _, done = await estate.swept(estate.sweep(PASSWORD_POLICY, PASSWORD_RESET))
    assert Counter(endings(done).values()) == {"failed": 1, "left": 3}
    assert await estate.marked() == []


async def test_a_policy_under_which_nobody_may_change_a_password_is_remarked_on(estate: Estate) -> None:
    """Who must choose a new one would be locked out; not where users may."""
    await three(estate)
    assert (await estate.sweep().survey([ACCOUNT])).unchangeable == [ACCOUNT]
    assert (await estate.sweep(MFA).survey([ACCOUNT])).unchangeable == []
    iam = await estate.accounts.client("iam")
    await iam.update_account_password_policy(AllowUsersToChangePassword=True)
    assert (await estate.sweep().survey([ACCOUNT])).unchangeable == []


async def test_a_sweep_stopped_after_the_policy_is_raised_still_knows_whose_passwords_are_old(estate: Estate) -> None:
    """The journal tells until when the policy was weak. Users made since, and those asked already, are left alone."""
    await three(estate)
    stop = asyncio.Event()
    sweep = estate.sweep(PASSWORD_POLICY, PASSWORD_RESET)
    survey = await sweep.survey([ACCOUNT])
    (policy, *_) = survey.rows
    await sweep.carry_out(Survey([policy]), stop)
    await estate.seed([user("new", estate.now, password=-0.01)])
    survey, _ = await estate.swept(estate.sweep())
    assert {name for name, action, _ in rows(survey) if action == PASSWORD_RESET} == {"ann", "bob", "cid"}
    assert sorted(await estate.marked()) == ["ann", "bob", "cid"]
    iam = await estate.accounts.client("iam")
    await iam.update_login_profile(UserName="ann", PasswordResetRequired=False)  # as a sign-in with a new password leaves it
    assert [one for one in rows(await estate.sweep().survey([ACCOUNT])) if one[1] == PASSWORD_RESET] == []


async def test_a_stopped_sweep_ends_what_it_began_and_the_next_does_the_rest(estate: Estate) -> None:
    """Ctrl-C: what was not begun is told as left; each user is held once in the end."""
    await three(estate)
    stop = asyncio.Event()
    wire = Wire(meddle=lambda _: stop.set())
    estate.accounts = WiredAccounts(estate.accounts, wire)  # type: ignore[assignment]
    _, done = await estate.swept(estate.sweep(PASSWORD_RESET, MFA), stop)
    assert Counter(endings(done).values()) == {"applied": 3, "left": 3}
    _, done = await estate.swept(estate.sweep(PASSWORD_RESET, MFA))
    assert Counter(endings(done).values()) == {"applied": 3}
    assert Counter(wire.calls) == {"update_login_profile": 3, "put_user_policy": 3}


@pytest.mark.parametrize("moment", ["die_before", "die_after"])
@pytest.mark.parametrize("number", range(6))
async def test_a_killed_sweep_run_again_makes_each_call_once(
    moment: str, number: int, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Died before or right after any of its calls; the claims of those in hand lapse, and each user is mended once."""
    monkeypatch.setattr("worker.sweep.sweep.AT_ONCE", 1)  # so that each call has its number
    await three(estate)
    wire = Wire()
    setattr(wire, moment, number)
    estate.accounts = WiredAccounts(estate.accounts, wire)  # type: ignore[assignment]
    with pytest.raises(BaseExceptionGroup) as died:
        await estate.swept(estate.sweep(PASSWORD_RESET, MFA))
    assert died.group_contains(CrashError)
    wire.die_before = wire.die_after = None
    estate.pass_lease()
    _, done = await estate.swept(estate.sweep(PASSWORD_RESET, MFA))
    assert set(endings(done).values()) <= {"applied"}
    assert rows(await estate.sweep(PASSWORD_RESET, MFA).survey([ACCOUNT])) == []
    assert Counter(wire.calls) == {"update_login_profile": 3, "put_user_policy": 3}


async def admins(estate: Estate, *names: str) -> None:
    iam = await estate.accounts.client("iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    for name in names:
        await iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)


async def test_administrators_are_done_one_after_the_other_and_others_meanwhile(estate: Estate) -> None:
    """Nobody fails of it: those who are busy wait for half a minute, and no line of the journal tells of that."""
    await three(estate)
    await estate.seed([user("zoe", estate.now, password=1), user("boss", estate.now, password=1, mfa=True)])
    await admins(estate, "ann", "bob", "cid", "boss")
    waits: list[int] = []

    async def sleep(seconds: float) -> None:
        waits.append(sum(POLICY_NAME in held for held in (await estate.policies()).values()))
        estate.now += timedelta(seconds=seconds)

    sweep = estate.sweep(MFA)
    sweep = replace(sweep, means=replace(sweep.means, sleep=sleep))
    _, done = await estate.swept(sweep)
    assert endings(done) == {(name, MFA): "applied" for name in ("ann", "bob", "cid", "zoe")}
    assert waits == [2, 3]
    assert Counter(await estate.outcomes()) == {"started": 4, "applied": 4}


async def test_what_stays_busy_is_told_as_that_after_the_lease(estate: Estate) -> None:
    """Somebody else is at work on it all the time; the others are done."""
    await three(estate)
    sweep = estate.sweep(MFA)
    survey = await sweep.survey([ACCOUNT])
    await estate.store.claim(survey.rows[0].errand.task.lock, "somebody", estate.now, timedelta(days=1))
    done = await sweep.carry_out(survey, asyncio.Event())
    assert endings(done) == {("ann", MFA): "busy", ("bob", MFA): "applied", ("cid", MFA): "applied"}
    assert LEASE < timedelta(seconds=sum(estate.slept)) < 2 * LEASE


async def test_a_stop_ends_the_wait_for_what_is_busy(estate: Estate) -> None:
    """It is told as left."""
    await three(estate)
    stop = asyncio.Event()

    async def sleep(_: float) -> None:
        stop.set()
        await asyncio.Event().wait()

    sweep = estate.sweep(MFA)
    sweep = replace(sweep, means=replace(sweep.means, sleep=sleep))
    survey = await sweep.survey([ACCOUNT])
    await estate.store.claim(survey.rows[0].errand.task.lock, "somebody", estate.now, timedelta(days=1))
    assert endings(await sweep.carry_out(survey, stop))["ann", MFA] == "left"


def test_no_call_of_a_sweep_outlasts_the_lease_of_its_claims() -> None:
    """Each try lasts 35 s at most (`aws.py`), and botocore waits up to 20 s between two: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""
    assert timedelta(seconds=TRIES * 35 + (TRIES - 1) * 20) < LEASE


async def test_each_task_of_a_sweep_can_be_undone_by_itself(estate: Estate) -> None:
    """From the journal alone; but for deleted keys everything is as it was."""
    await estate.seed([user("ann", estate.now, password=1, keys={"0000000000000001": ("Active", 99, None)})])
    _, done = await estate.swept(estate.sweep())
    assert set(endings(done).values()) == {"applied"}
    for history in await histories(estate.store.journal(), ""):
        undo = await Undo.of(history, estate.undoing(), Limits.of(estate.undoing_settings))
        assert isinstance(undo, Undo), undo
        plan = await undo.prospect()
        assert isinstance(plan, Plan)
        assert (await undo.carry_out(plan.steps)).outcome == "undone"
    assert (await estate.marked(), await estate.policies()) == ([], {"ann": {}})
    assert await estate.statuses("ann") == {"AKIA0000000000000001": "Active"}
    iam = await estate.accounts.client("iam")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        await iam.get_account_password_policy()
    assert len(rows(await estate.sweep().survey([ACCOUNT]))) == 4
