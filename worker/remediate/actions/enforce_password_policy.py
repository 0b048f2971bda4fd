"""`enforce-password-policy`: the account's password policy raised to a stated minimum, and never lowered.

`UpdateAccountPasswordPolicy` replaces the whole policy, and what it is not told falls back to a default. So everything is told: of each
rule the stricter of what is and what is asked, and what is not asked as it is. `ExpirePasswords` is only read: IAM makes it out of `MaxPasswordAge`.
`HardExpiry` locks users out whose password has expired, so it is kept and never switched on.

A policy speaks of new passwords: it neither looks at nor changes those that are there, and no API tells how strong one is.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccountPasswordPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted, found

NUMBERS = {"minimum_length": "MinimumPasswordLength", "reuse_prevention": "PasswordReusePrevention"}
FLAGS = {
    "symbols": "RequireSymbols",
    "numbers": "RequireNumbers",
    "uppercase": "RequireUppercaseCharacters",
    "lowercase": "RequireLowercaseCharacters",
    "users_may_change": "AllowUsersToChangePassword",
}
KEPT = ("HardExpiry",)
AGE = "MaxPasswordAge"
WITHOUT: Mapping[str, Any] = {
    "MinimumPasswordLength": 8,
    "RequireNumbers": True,
    "RequireUppercaseCharacters": True,
    "RequireLowercaseCharacters": True,
}
"""An account without a policy asks for 8 characters of three kinds out of four; a policy that asked for less would lower that.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_passwords_account-policy.html#default-policy-details"""


@dataclass(frozen=True, slots=True)
class EnforcePasswordPolicy:
    """The target is the account, by its id; params are the least that the policy must ask for."""

    name: ClassVar[str] = "enforce-password-policy"
    target_type: ClassVar[str] = "account"
    undoing: ClassVar[str] = "undo writes back the policy before, or deletes it where there was none; passwords chosen meanwhile stay"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetAccountPasswordPolicy",),
        changes=("iam:UpdateAccountPasswordPolicy", "iam:DeleteAccountPasswordPolicy"),
    )
    params: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "minProperties": 1,
        "properties": {
            "minimum_length": {"type": "integer", "minimum": 6, "maximum": 128},
            "reuse_prevention": {"type": "integer", "minimum": 1, "maximum": 24},
            "max_age_days": {"type": "integer", "minimum": 1, "maximum": 1095},
            **{name: {"const": True} for name in FLAGS},
        },
        "additionalProperties": False,
    }

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Refuses a target that is not the account itself."""
        account = task.target.account
        if task.target.name != account:
            return Refusal("other-account", f"the target is called {task.target.name}, and stands in account {account}")
        live = await _read(await clients.get("iam"))
        wanted = raised(live, task.params)
        if live == wanted:
            return Plan((), {"policy": live})
        says = f"raise the password policy of account {account}: {_changes(live, wanted)}"
        return Plan((_update(wanted, says),), {"policy": live}, effects=tuple(_effects(account, live or {}, wanted)))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The policy before is written back; where there was none, the policy is deleted."""
        account = task.target.account
        live = await _read(await clients.get("iam"))
        before, left = done.before["policy"], done.after["policy"]
        state = {"policy": live}
        if live == before:
            return Plan((), state)
        if live != left:
            said = f"the password policy of account {account} was changed since: {_changes(left, live or {})}"
            return Refusal("changed-since", said, state)
        if before is None:
            return Plan((Step("iam", "DeleteAccountPasswordPolicy", {}, f"delete the password policy of account {account}"),), state)
        says = f"write the password policy of account {account} as it was before: {_changes(live, before)}"
        return Plan((_update(before, says),), state)


def raised(live: Mapping[str, Any] | None, least: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy that asks for the stricter of two, rule by rule."""
    has = WITHOUT if live is None else live
    told = {name: has[name] for name in KEPT if name in has}
    told |= {name: bool(has.get(name)) or least.get(asked, False) for asked, name in FLAGS.items()}
    told["MinimumPasswordLength"] = max(has["MinimumPasswordLength"], least.get("minimum_length", 0))
    reuse = max(has.get("PasswordReusePrevention", 0), least.get("reuse_prevention", 0))
    # No age at all is the longest one, and a shorter one is the stricter.
    ages = [age for age in (has.get(AGE), least.get("max_age_days")) if age]
    return told | ({"PasswordReusePrevention": reuse} if reuse else {}) | ({AGE: min(ages)} if ages else {})


async def _read(iam: Any) -> dict[str, Any] | None:
    """The policy in the members that can be written; those that are nought or unset are left out."""
    answer = await found(iam.get_account_password_policy())
    if answer is None:
        return None
    policy = answer["PasswordPolicy"]
    numbers = {name: policy[name] for name in (*NUMBERS.values(), AGE) if policy.get(name)}
    kept = {name: policy[name] for name in KEPT if policy.get(name)}
    return {**numbers, **kept, **{name: bool(policy.get(name)) for name in FLAGS.values()}}


def _effects(account: str, live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    yield f"every user of account {account} who sets a console password must meet the new policy; passwords that are there go on"
    if wanted.get(AGE) != live.get(AGE):
        after = "is locked out until an administrator helps" if wanted.get("HardExpiry") else "must choose a new one at the next sign-in"
        yield f"whose console password is older than {wanted[AGE]} days {after}"


def _update(policy: Mapping[str, Any], says: str) -> Step:
    return Step("iam", "UpdateAccountPasswordPolicy", dict(policy), says)


def _changes(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> str:
    was = one or {}
    names = [name for name in sorted({*was, *other}) if was.get(name) != other.get(name)]
    return ", ".join(f"{name} {was.get(name, 'unset')} -> {other.get(name, 'unset')}" for name in names) or "made as IAM's defaults are"
