"""What live state says against a plan, asked right before it is carried out: exempt by a tag, or the last administrator.

Whoever carries out a plan asks here (executor, undo, and whoever comes after them), because a task can tell of neither. Reading is all that is done.

*Tags*: of the users and roles that a plan touches, of an instance profile and of the roles in it; only where patterns are set.

*The last administrator*: where a plan takes every way in from a user who is an administrator, or may be one, somebody else must be left who is an
administrator and can come in: another user with a console password or an active key, or whoever may assume a role that is one. Where nobody is
seen, or AWS does not let it be seen, the plan is refused. One administrator of an account is acted on at a time, and the next only when the look
at who remains must show it: two who go at once would each see the other stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from worker.aws import explain
from worker.remediate.administrators import LISTS, Loss, Roster, by_plan
from worker.remediate.attempt import Attempt
from worker.remediate.guards import Judgement, Limits, Stance, judge_tags, kind_and_name
from worker.remediate.steps import Clients, Plan, found

ROSTER_CALLS = ("iam:GetAccountAuthorizationDetails", "iam:GetLoginProfile", "iam:ListAccessKeys", "iam:ListMFADevices")
TAG_CALLS = ("iam:GetInstanceProfile", "iam:GetRole", "iam:GetUser")
"""Where tags are exempt."""
AWS_CALLS = (*ROSTER_CALLS, *TAG_CALLS)

LAST = "last-administrator"
HARMLESS_FOR = timedelta(seconds=60)
"""For so long a user who was no administrator is taken for none. Where one is acted on, everybody is looked at anew."""
PAGE = 1000
MOST_PAGES = 100
"""More than the quotas of an account can fill: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
MOST_OTHERS = 100
"""Other administrators who are looked at for a way in, at three calls each."""


class _HiddenError(Exception):
    """AWS does not let something be seen. The text says what to allow."""


class Sentry:
    """Asked about plans, by whatever process; remembers for a minute who is no administrator."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rosters: dict[str, tuple[datetime, Roster]] = {}

    async def judge(self, attempt: Attempt, plan: Plan, *, acting: bool) -> Judgement | None:
        """What speaks against a plan, or None. Raises what the clients raise.

        With `acting` it is about to be carried out, and a claim is added to the attempt's where an administrator is acted on; `BusyError` where another
        attempt has it.
        """
        clients = attempt.clients
        spared = await self._tagged(attempt, plan, clients) if self._limits.exempt_tags and plan.steps else None
        if spared is not None:
            return spared
        for user, loss in by_plan(plan.steps).items():
            try:
                refused = await self._last(attempt, user, loss, clients, acting=acting)
            except _HiddenError as hidden:
                refused = Judgement(Stance.REFUSE, LAST, f"nobody can tell whether {user} is the last administrator: {hidden}")
            if refused is not None:
                return refused
        return None

    # Tags.

    async def _tagged(self, attempt: Attempt, plan: Plan, clients: Clients) -> Judgement | None:
        iam = await clients.get("iam")
        tags: dict[str, Mapping[str, str]] = {}
        roles: list[str] = []
        for kind, name in map(kind_and_name, plan.touches):
            if kind == "user":
                tags[f"user {name}"] = _tags(await found(iam.get_user(UserName=name)), "User")
            elif kind == "role":
                roles.append(name)
            elif kind == "instance-profile":
                answer = await found(iam.get_instance_profile(InstanceProfileName=name))
                tags[f"instance profile {name}"] = _tags(answer, "InstanceProfile")
                roles += [one["RoleName"] for one in (answer or {}).get("InstanceProfile", {}).get("Roles", ())]
        for name in dict.fromkeys(roles):
            tags[f"role {name}"] = _tags(await found(iam.get_role(RoleName=name)), "Role")
        target, remembered = attempt.task.target, attempt.task.params.get("tags")
        if target.type == "instance-profile" and isinstance(remembered, Mapping):
            # One that is gone has no tags but those that are remembered.
            tags[f"instance profile {target.name}, as remembered,"] = remembered
        judgements = (judge_tags(whose, told, self._limits) for whose, told in tags.items())
        return next((one for one in judgements if one is not None), None)

    # The last administrator.

    async def _last(self, attempt: Attempt, user: str, loss: Loss, clients: Clients, *, acting: bool) -> Judgement | None:
        iam = await clients.get("iam")
        if not loss.denied and await _keeps_a_way(iam, user, loss):
            return None
        account = attempt.task.target.account
        # False is told of a user who is in the roster alone: one who is newer than it is looked for anew.
        if (await self._lately(account, clients)).administrator(user) is False:
            return None
        if acting:
            await attempt.hold_too(f"administrators:{account}")
        roster = await _roster(iam)  # from after the claim
        if roster.administrator(user) is False:
            return None
        return await self._without(attempt, user, roster, iam)

    async def _lately(self, account: str, clients: Clients) -> Roster:
        now = clients.now
        self._rosters = {of: told for of, told in self._rosters.items() if abs(now - told[0]) < HARMLESS_FOR}
        if account not in self._rosters:
            self._rosters[account] = now, await _roster(await clients.get("iam"))
        return self._rosters[account][1]

    async def _without(self, attempt: Attempt, user: str, roster: Roster, iam: Any) -> Judgement | None:
        """Who would be left."""
        entrances = roster.entrances(attempt.task.target.account, attempt.own)
        if any(one.outside for one in entrances):
            return None
        through = [name for one in entrances for name in one.users]
        others = [name for name in dict.fromkeys((*roster.others(), *through)) if not _is(name, user) and not _is(name, attempt.own.name)]
        for name in others[:MOST_OTHERS]:
            held = roster.held(name)
            if not held.denied and await _way_in(iam, name, held):
                return None
        looked = f"{len(others)} others were looked at" if others else "there is no other"
        says = f"{user} is an administrator or may be one, and no other of account {attempt.task.target.account} is seen to have a way in: {looked}"
        return Judgement(Stance.REFUSE, LAST, says)


async def _keeps_a_way(iam: Any, user: str, loss: Loss) -> bool:
    try:
        return await _way_in(iam, user, loss)
    except _HiddenError:
        return False  # it matters only for an administrator


def _is(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


async def _way_in(iam: Any, user: str, loss: Loss) -> bool:
    """Whether a user has a console password or an active key in spite of a loss, and MFA where nothing goes without."""
    if loss.until_mfa:
        devices = await _seen(iam.list_mfa_devices(UserName=user), "iam:ListMFADevices")
        if not devices or not devices["MFADevices"]:
            return False
    if await _seen(iam.get_login_profile(UserName=user), "iam:GetLoginProfile") is not None:
        return True
    keys = await _seen(iam.list_access_keys(UserName=user), "iam:ListAccessKeys")
    active = [one["AccessKeyId"] for one in (keys or {}).get("AccessKeyMetadata", ()) if one["Status"] == "Active"]
    return not loss.keys.issuperset(active)


async def _roster(iam: Any) -> Roster:
    details: dict[str, list[Mapping[str, Any]]] = {name: [] for name in LISTS}
    marker: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        page = await _seen(iam.get_account_authorization_details(MaxItems=PAGE, **marker), "iam:GetAccountAuthorizationDetails")
        for name in LISTS:
            details[name] += (page or {}).get(name, ())
        if not page or not page.get("IsTruncated"):
            return Roster(details)
        marker = {"Marker": page["Marker"]}
    raise _HiddenError(f"the account has more than {MOST_PAGES * PAGE} users, roles, groups and policies")


async def _seen(call: Any, action: str) -> Any:
    """An answer, or None where there is no such thing."""
    try:
        return await found(call)
    except ClientError as error:
        if explain(error).kind == "denied":
            raise _HiddenError(f"{explain(error).text}; allow {action}") from error
        raise


def _tags(answer: Mapping[str, Any] | None, member: str) -> Mapping[str, str]:
    return {one["Key"]: one.get("Value", "") for one in (answer or {}).get(member, {}).get("Tags", ())}
