"""Which policies a user or role holds, by itself and by its groups: asked one by one, or out of one answer about its whole account.

In goes a `Principal`, out come its `Grants`: what it holds by name, the documents to judge by, the answers it all rests on, and what could
not be had. For a few principals that is some ten small questions each; when more than `HANDFUL` of one account are asked about within the
answers' lifetime, GetAccountAuthorizationDetails answers for all of them at once. Everything is bounded, and what is left out is named.
Sources: https://docs.aws.amazon.com/IAM/latest/APIReference/ (ListGroupsForUser, ListAttachedUserPolicies, ListUserPolicies, GetUserPolicy
and the same of groups and roles, GetPolicy, GetPolicyVersion, GetAccountAuthorizationDetails) and reference_iam-quotas.html of the User
Guide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.enrich.fact import Answer, Call, Case
from worker.glob import Glob
from worker.policy import ADMINISTRATOR_ACCESS, Own, Policy

ANY_CALLS = ("iam:GetAccountAuthorizationDetails", "iam:GetPolicy", "iam:GetPolicyVersion")
ROLE_CALLS = (*ANY_CALLS, "iam:GetRole", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies", "iam:GetRolePolicy")
USER_CALLS = (
    *ANY_CALLS,
    "iam:GetUser",
    "iam:ListAttachedUserPolicies",
    "iam:ListUserPolicies",
    "iam:GetUserPolicy",
    "iam:ListGroupsForUser",
    "iam:ListAttachedGroupPolicies",
    "iam:ListGroupPolicies",
    "iam:GetGroupPolicy",
)

LIFETIME_SECONDS = 180.0
IDENTITY_SECONDS = 30.0
"""Of the questions that the facts `user` and `role` ask too."""
VERSION_SECONDS = 3600.0
"""A version of a policy never changes, and AWS's own policies change for no event that anybody watches."""
HANDFUL = 5
MOST_GROUPS = 10
MOST_DOCUMENTS = 40
"""Policies of a kind, inline or managed, that are read of one principal. IAM allows ten groups and some twenty attached policies each."""
MOST_ENTRIES = 5000
"""Users, groups, roles and policies of an account that are taken at once; a larger account is asked about one by one."""

AWS_OWNED = Glob("arn:*:iam::aws:policy/*", cased=True)
KNOWN_BY_NAME = Glob("arn:*:iam::aws:policy/AdministratorAccess", cased=True)

DETAILS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
KEPT = ("UserName", "GroupName", "RoleName", "Arn", "GroupList", "AttachedManagedPolicies", "PermissionsBoundary")
INLINE = {"user": "UserPolicyList", "group": "GroupPolicyList", "role": "RolePolicyList"}
NAME = {"user": "UserName", "group": "GroupName", "role": "RoleName"}
OPERATIONS = {
    "user": ("list_attached_user_policies", "list_user_policies", "get_user_policy"),
    "group": ("list_attached_group_policies", "list_group_policies", "get_group_policy"),
    "role": ("list_attached_role_policies", "list_role_policies", "get_role_policy"),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A user or role: `kind` is user or role. Account and name are such as may be put into a question."""

    kind: str
    account: str
    name: str


@dataclass(frozen=True, slots=True)
class Grants:
    """What a principal holds. `groups`, `attached` and `inline` are None where AWS would not tell; `unknown` has the reason.

    `evidence` is `calls` or `account-details`. `gone`: there is no such principal.
    """

    evidence: str
    answers: Sequence[Answer]
    gone: Answer | None = None
    arn: str | None = None
    groups: Sequence[str] | None = None
    attached: Sequence[Mapping[str, str]] | None = None
    inline: Sequence[Mapping[str, str]] | None = None
    boundary_arn: str | None = None
    policies: Sequence[Policy] = ()
    boundary: Policy | None = None
    own: Own = field(default_factory=Own)
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What one user, role or group holds by itself: attached policies by ARN and name, inline ones by name with their document."""

    kind: str
    name: str
    attached: Mapping[str, str] | None
    inline: Mapping[str, Any] | None

    @property
    def of(self) -> str:
        return f"{self.kind} {self.name}"


async def grants_of(case: Case, principal: Principal) -> Grants:
    """What it holds: out of the account's details where a crowd is asked about and they are to be had, else asked one by one."""
    asked = case.crowd.joined(f"permissions {principal.account}", f"{principal.kind} {principal.name}", case.clock(), LIFETIME_SECONDS)
    if asked > HANDFUL:
        details = await case.ask(_details(principal.account))
        if details.fault is None and not details.value["more"] and (found := _out_of(details, principal)) is not None:
            return found
    return await _one_by_one(case, principal)


def _details(account: str) -> Call:
    # No PolicyVersionList but its default, no trust policies: an account's whole answer is kept for some minutes.
    params = {"MaxItems": 1000}
    operation = "get_account_authorization_details"
    return Call(account, "iam", operation, LIFETIME_SECONDS, params, gather=DETAILS, most=MOST_ENTRIES, read=_kept)


def _kept(page: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted = (*KEPT, *INLINE.values())
    kept: dict[str, Any] = {
        member: [{name: one[name] for name in wanted if name in one} for one in page.get(member, ())] for member in DETAILS[:3]
    }
    kept["Policies"] = [
        {"Arn": one.get("Arn"), "Document": version.get("Document")}
        for one in page.get("Policies", ())
        for version in one.get("PolicyVersionList", ())
        if version.get("IsDefaultVersion")
    ]
    return kept


def _out_of(details: Answer, principal: Principal) -> Grants | None:
    """What the account's details say of it; None where they do not know it, for then it is newer than they are, or gone."""
    people = details.value["UserDetailList" if principal.kind == "user" else "RoleDetailList"]
    found = next((one for one in people if one.get(NAME[principal.kind]) == principal.name), None)
    if found is None:
        return None
    names = found.get("GroupList", ())
    its = [one for one in details.value["GroupDetailList"] if one.get("GroupName") in names]
    groups = {str(one["GroupName"]): str(one.get("Arn")) for one in its}
    sheets = [_sheet_of(principal.kind, found), *(_sheet_of("group", one) for one in its)]
    documents = {str(one["Arn"]): one["Document"] for one in details.value["Policies"]}
    return _told("account-details", [details], principal, found, groups, sheets, documents, {})


def _sheet_of(kind: str, detail: Mapping[str, Any]) -> _Sheet:
    inline = {str(one["PolicyName"]): one.get("PolicyDocument") for one in detail.get(INLINE[kind], ())}
    return _Sheet(kind, str(detail.get(NAME[kind])), _attached(detail.get("AttachedManagedPolicies", ())), inline)


def _attached(policies: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {str(one["PolicyArn"]): str(one["PolicyName"]) for one in policies}


async def _one_by_one(case: Case, principal: Principal) -> Grants:
    asking = _Asking(case, principal.account)
    kind, member = ("get_user", "User") if principal.kind == "user" else ("get_role", "Role")
    itself, groups, sheet = await asyncio.gather(
        asking.about("identity", kind, {NAME[principal.kind]: principal.name}, IDENTITY_SECONDS),
        asking.listed("groups", "list_groups_for_user", {"UserName": principal.name}, "Groups") if principal.kind == "user" else _none(),
        asking.sheet(principal.kind, principal.name),
    )
    if itself.gone:
        return Grants("calls", asking.answers, gone=itself)
    its = None if groups is None else {str(one["GroupName"]): str(one.get("Arn")) for one in groups}
    if its is not None and len(its) > MOST_GROUPS:
        asking.unknown["groups"] = f"only {MOST_GROUPS} of {len(its)} are looked into"
    sheets = [sheet, *await asyncio.gather(*(asking.sheet("group", name) for name in list(its or ())[:MOST_GROUPS]))]
    found = itself.value.get(member, {})
    arns = list(dict.fromkeys(arn for one in sheets for arn in one.attached or ()))
    if (limit := found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")) is not None:
        arns.insert(0, limit)
    documents = await asking.documents(arns)
    return _told("calls", asking.answers, principal, found, its, sheets, documents, asking.unknown)


async def _none() -> list[Any]:
    return []


class _Asking:
    """The questions about one principal: every answer they rest on, and what AWS would not tell."""

    def __init__(self, case: Case, account: str) -> None:
        self._case = case
        self._account = account
        self.answers: list[Answer] = []
        self.unknown: dict[str, str] = {}

    async def about(
        self, part: str, operation: str, params: Mapping[str, str], lifetime_seconds: float = LIFETIME_SECONDS, gather: str | None = None
    ) -> Answer:
        answer = await self._case.ask(Call(self._account, "iam", operation, lifetime_seconds, params, gather=gather))
        self.answers.append(answer)
        if answer.fault is not None:
            self.unknown[part] = answer.fault.text
        return answer

    async def listed(self, part: str, operation: str, params: Mapping[str, str], member: str) -> list[Any] | None:
        answer = await self.about(part, operation, params, gather=member)
        return None if answer.fault is not None else list(answer.value[member])

    async def sheet(self, kind: str, name: str) -> _Sheet:
        attached_to, inline_of, document_of = OPERATIONS[kind]
        params = {NAME[kind]: name}
        attached, inline = await asyncio.gather(
            self.listed(f"attached policies of {kind} {name}", attached_to, params, "AttachedPolicies"),
            self.listed(f"inline policies of {kind} {name}", inline_of, params, "PolicyNames"),
        )
        names = [str(one) for one in inline or ()]
        read = await asyncio.gather(
            *(
                self.about(f"inline policy {one} of {kind} {name}", document_of, {**params, "PolicyName": one})
                for one in names[:MOST_DOCUMENTS]
            )
        )
        documents = {one: answer.value.get("PolicyDocument") for one, answer in zip(names, read, strict=False)}
        return _Sheet(
            kind,
            name,
            None if attached is None else _attached(attached),
            None if inline is None else {one: documents.get(one) for one in names},
        )

    async def documents(self, arns: Sequence[str]) -> dict[str, Any]:
        """The documents of managed policies in force. AWS's own are the same for everybody, and are read in our account."""
        read = [arn for arn in arns if not KNOWN_BY_NAME.fits(arn)][:MOST_DOCUMENTS]
        return dict(zip(read, await asyncio.gather(*(self._document(arn) for arn in read)), strict=True))

    async def _document(self, arn: str) -> Any:
        everybodys = AWS_OWNED.fits(arn)
        account, seconds = (None, VERSION_SECONDS) if everybodys else (self._account, LIFETIME_SECONDS)
        policy = await self._case.ask(Call(account, "iam", "get_policy", seconds, {"PolicyArn": arn}, standing=everybodys))
        version = policy.value.get("Policy", {}).get("DefaultVersionId")
        answer = policy
        if policy.fault is None:
            params = {"PolicyArn": arn, "VersionId": version}
            answer = await self._case.ask(Call(account, "iam", "get_policy_version", VERSION_SECONDS, params, standing=True))
        if not everybodys:
            self.answers.append(policy)  # the version it names is as old as this, and never changes
        if answer.fault is not None:
            self.unknown[f"policy {arn}"] = answer.fault.text
        return answer.value.get("PolicyVersion", {}).get("Document")


def _told(
    evidence: str,
    answers: Sequence[Answer],
    principal: Principal,
    found: Mapping[str, Any],
    groups: Mapping[str, str] | None,
    sheets: Sequence[_Sheet],
    documents: Mapping[str, Any],
    unknown: Mapping[str, str],
) -> Grants:
    def document(arn: str) -> Any:
        return ADMINISTRATOR_ACCESS if KNOWN_BY_NAME.fits(arn) else documents.get(arn)

    policies = [Policy(f"{name} of {one.of}", document(arn)) for one in sheets for arn, name in (one.attached or {}).items()]
    policies += [Policy(f"inline policy {name} of {one.of}", told) for one in sheets for name, told in (one.inline or {}).items()]
    # What AWS would not list may hold anything: it counts as a policy that cannot be read.
    lists = ("groups", "attached policies of", "inline policies of")
    policies += [Policy(part, None) for part in unknown if part.startswith(lists)]
    boundary_arn = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    boundary = None if boundary_arn is None else Policy(str(boundary_arn), document(str(boundary_arn)))
    if "identity" in unknown:
        boundary = Policy("the permissions boundary", None)
    arn = found.get("Arn")
    owned = {
        principal.kind: [arn] if arn else [],
        "group": list((groups or {}).values()),
        "policy": [one for sheet in sheets for one in sheet.attached or () if not AWS_OWNED.fits(one)],
    }
    return Grants(
        evidence,
        answers,
        arn=arn,
        groups=None if groups is None else list(groups),
        attached=None
        if sheets[0].attached is None
        else [{"name": name, "arn": one, "of": sheet.of} for sheet in sheets for one, name in (sheet.attached or {}).items()],
        inline=None if sheets[0].inline is None else [{"name": name, "of": sheet.of} for sheet in sheets for name in sheet.inline or ()],
        boundary_arn=boundary_arn,
        policies=policies,
        boundary=boundary,
        own=Own(principal.name if principal.kind == "user" else None, owned),
        unknown=unknown,
    )
