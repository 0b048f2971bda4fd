"""Who the administrators of an account are, and by which roles others could come in as one: pure.

In go the lists of GetAccountAuthorizationDetails, out comes a `Roster`. What makes an administrator is `worker/policy.py`'s to say. `by_plan` reads
what a plan would take from whom. A newcomer's action whose steps take away a way in is read there.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccountAuthorizationDetails.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.glob import Glob
from worker.policy import ADMINISTRATOR_ACCESS, Policy, rank
from worker.remediate.actions.enforce_mfa import POLICY_NAME as UNTIL_MFA
from worker.remediate.actions.quarantine_user import POLICY_NAME as QUARANTINE
from worker.remediate.guards import Identity
from worker.remediate.steps import Step

LISTS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
KNOWN_BY_NAME = Glob("arn:*:iam::aws:policy/AdministratorAccess", cased=True)

_ASSUMING = frozenset({"sts:assumerole", "sts:assumerolewithsaml", "sts:assumerolewithwebidentity", "sts:*", "*"})
_EXTERNAL_ID = "sts:externalid"


@dataclass(frozen=True, slots=True)
class Loss:
    """What a plan takes from a user: everything (`denied`), everything until there is MFA (`until_mfa`), or some keys."""

    denied: bool = False
    until_mfa: bool = False
    keys: frozenset[str] = frozenset()

    def __or__(self, other: Loss) -> Loss:
        return Loss(self.denied or other.denied, self.until_mfa or other.until_mfa, self.keys | other.keys)


def by_plan(steps: Iterable[Step]) -> Mapping[str, Loss]:
    """By the user's name what the steps take away. A policy that is none of ours to know is held to deny everything."""
    losses: dict[str, Loss] = {}
    for step in steps:
        told = step.parameters
        loss = None
        if step.api == "PutUserPolicy":
            loss = Loss(until_mfa=True) if told["PolicyName"] == UNTIL_MFA else Loss(denied=True)
        elif step.api == "DeleteAccessKey" or (step.api == "UpdateAccessKey" and told["Status"] == "Inactive"):
            loss = Loss(keys=frozenset({str(told["AccessKeyId"])}))
        if loss is not None:
            losses[told["UserName"]] = losses.get(told["UserName"], Loss()) | loss
    return losses


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who may come in by a role: somebody from outside the account, in words, or users of the account by their names."""

    role: str
    outside: str | None
    users: tuple[str, ...]


class Roster:
    """The users and roles of an account. Names are told apart without regard to case, as IAM does."""

    def __init__(self, details: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        users, groups, roles, policies = (details.get(name, ()) for name in LISTS)
        self._users = {str(one["UserName"]).casefold(): one for one in users}
        self._groups = {one["GroupName"]: one for one in groups}
        self._roles = roles
        self._documents = {one["Arn"]: _default(one) for one in policies}

    def administrator(self, user: str) -> bool | None:
        """Whether a user is an administrator; None where that depends on a condition, or nobody can tell."""
        told = self._users.get(user.casefold())
        if told is None:
            return None
        groups = [self._groups.get(name) for name in told.get("GroupList", ())]
        held = [*self._held(told, "UserPolicyList"), *(one for group in groups if group for one in self._held(group, "GroupPolicyList"))]
        # A group that is not told of may hold anything.
        held += [Policy("a group", None) for group in groups if group is None]
        return rank(held, self._boundary(told)).administrator

    def others(self) -> Iterable[str]:
        """The users who are administrators whatever the circumstances."""
        return (str(told["UserName"]) for name, told in self._users.items() if self.administrator(name) is True)

    def held(self, user: str) -> Loss:
        """What our own policies keep from a user already."""
        told = self._users.get(user.casefold(), {})
        names = {one["PolicyName"] for one in told.get("UserPolicyList", ())}
        return Loss(denied=QUARANTINE in names, until_mfa=UNTIL_MFA in names)

    def entrances(self, account: str, own: Identity) -> Sequence[Entrance]:
        """The ways in by roles that are administrators, but for our own."""
        found = []
        for told in self._roles:
            name = str(told["RoleName"])
            if own.kind == "role" and name.casefold() == own.name.casefold():
                continue
            outside, users = admitted(told.get("AssumeRolePolicyDocument"), account)
            if (outside or users) and rank([*self._held(told, "RolePolicyList")], self._boundary(told)).administrator is True:
                found.append(Entrance(name, outside, users))
        return found

    def _held(self, told: Mapping[str, Any], inline: str) -> Iterable[Policy]:
        for one in told.get("AttachedManagedPolicies", ()):
            yield Policy(one["PolicyName"], self._document(one["PolicyArn"]))
        for one in told.get(inline, ()):
            yield Policy(one["PolicyName"], one.get("PolicyDocument"))

    def _boundary(self, told: Mapping[str, Any]) -> Policy | None:
        arn = told.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        return None if arn is None else Policy(arn, self._document(arn))

    def _document(self, arn: str) -> Any:
        return ADMINISTRATOR_ACCESS if KNOWN_BY_NAME.fits(arn) else self._documents.get(arn)


def _default(policy: Mapping[str, Any]) -> Any:
    return next((one.get("Document") for one in policy.get("PolicyVersionList", ()) if one.get("IsDefaultVersion")), None)


def admitted(trust: Any, account: str) -> tuple[str | None, tuple[str, ...]]:
    """Whom a trust policy lets in: somebody from outside the account, in words, and users of it by their names.

    Left out is what is no person's way in, or cannot be told from here: AWS's services, clusters, those of an application, the account itself and its
    roles, whoever must show an external id (somebody else's software), and all of a policy that denies anything.
    """
    statements = _many(trust.get("Statement")) if isinstance(trust, Mapping) else ()
    read = [one for one in statements if isinstance(one, Mapping)]
    if any(one.get("Effect") != "Allow" for one in read):
        return None, ()
    outside: str | None = None
    users: list[str] = []
    for one in read:
        actions = {action.casefold() for action in _many(one.get("Action")) if isinstance(action, str)}
        principal = one.get("Principal")
        if _ASSUMING.isdisjoint(actions) or _wants_external_id(one.get("Condition")):
            continue
        if principal == "*":
            outside = "anybody"
        elif isinstance(principal, Mapping):
            for arn in (text for text in _many(principal.get("AWS")) if isinstance(text, str)):
                pieces = arn.split(":", 5)
                of = arn if len(pieces) == 1 else pieces[4] if len(pieces) == 6 else ""
                if arn == "*":
                    outside = "anybody"
                elif of.isdecimal() and of != account:
                    outside = f"account {of}"
                elif of == account and pieces[-1].startswith("user/"):
                    users.append(pieces[-1].rsplit("/", 1)[-1])
            federated = [text for text in _many(principal.get("Federated")) if isinstance(text, str) and _is_of_people(text)]
            outside = federated[0] if federated else outside
    return outside, tuple(users)


def _is_of_people(provider: str) -> bool:
    return ":saml-provider/" in provider or (":oidc-provider/" in provider and ":oidc-provider/oidc.eks." not in provider)


def _wants_external_id(condition: Any) -> bool:
    operators = condition.values() if isinstance(condition, Mapping) else ()
    return any(key.casefold() == _EXTERNAL_ID for operator in operators if isinstance(operator, Mapping) for key in operator)


def _many(value: Any) -> Iterable[Any]:
    # Policies may hold one value where others hold a list.
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)
