"""An AWS account with what the actions act on, an executor to act on it, and a picture of everything in it to compare."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests import fakes
from worker.aws import Accounts
from worker.model import Answer, Approval, Decision, Message, Verdict, stable_id
from worker.modes import Mode, Modes
from worker.remediate.attempt import Means
from worker.remediate.executor import Executor
from worker.remediate.guards import Limits
from worker.remediate.history import History, histories
from worker.remediate.steps import Refusal
from worker.remediate.undo import Ending, Undo
from worker.remediate.waiting import Waiting
from worker.settings import Settings
from worker.state.sqlite import SqliteStore

ACCOUNT = "000000000000"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AUTO = Modes(Mode.AUTO)
FINDING = "0f0e0d0c-0000-5000-8000-000000000001"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def person(name: str) -> str:
    """The ARN of somebody of Identity Center."""
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_OnCall_0123456789abcdef/{name}"


class CrashError(BaseException):
    """The process died here. No `except Exception` sees it."""


def crash() -> None:
    raise CrashError


@dataclass
class Wire:
    """Every changing call that reached AWS, and where to die: before the call of this number, or after it with its answer lost."""

    calls: list[str] = field(default_factory=list)
    die_before: int | None = None
    die_after: int | None = None
    meddle: Callable[[str], None] | None = None
    die: Callable[[], None] = crash


class WiredAccounts:
    """The real `Accounts`, whose clients tell the wire."""

    def __init__(self, accounts: Accounts, wire: Wire) -> None:
        self._accounts = accounts
        self._wire = wire

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        return WiredClient(await self._accounts.client(service, account, region), self._wire)


class WiredClient:
    def __init__(self, client: Any, wire: Wire) -> None:
        self._client = client
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name.startswith(("get_", "list_", "describe_")) or name == "meta":
            return real

        async def call(**parameters: Any) -> Any:
            __tracebackhide__ = True  # what is called through it is the executor's call (tests/recorder.py)
            number = len(self._wire.calls)
            if self._wire.die_before == number:
                self._wire.die()
            if self._wire.meddle is not None:
                self._wire.meddle(name)
            answer = await real(**parameters)
            self._wire.calls.append(name)
            if self._wire.die_after == number:
                self._wire.die()
            return answer

        return call


@dataclass
class World:
    """An account, a store and a clock; executors are made on it as processes would be."""

    accounts: Accounts
    store: SqliteStore
    wire: Wire = field(default_factory=Wire)
    now: datetime = NOW
    settings: Settings = field(default_factory=lambda: Settings(remediation_mode=Mode.AUTO))
    metrics: Any = field(default_factory=fakes.metrics)
    slept: list[float] = field(default_factory=list)
    _owners: Any = field(default_factory=itertools.count)

    def executor(self, **changed: Any) -> Executor:
        """A new process. Keyword arguments are settings that differ."""

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        accounts: Any = WiredAccounts(self.accounts, self.wire)
        settings = replace(self.settings, **changed)
        return Executor(self.store, accounts, settings, self.metrics, lambda: self.now, f"process-{next(self._owners)}", sleep)

    async def handle(self, body: str, **changed: Any) -> Verdict:
        """What a new process makes of a message."""
        return await self.executor(**changed).handle(Message("m", body, "receipt"))

    async def wait(self, body: str, **changed: Any) -> Approval:
        """A new process is asked for a task in mode approve; answers what waits then."""
        assert await self.handle(body, **{"remediation_mode": Mode.APPROVE, **changed}) == Verdict(delete=True)
        (approval,) = await self.store.approvals()
        return approval

    async def answer(self, who: str = "alice", answer: Answer = Answer.YES) -> None:
        """Somebody of Identity Center answers what waits."""
        (approval,) = await self.store.approvals()
        told = Decision(person(who), answer, f"{who} has looked", self.now)
        assert await self.store.decide(approval, told) is not None

    async def look(self, **changed: Any) -> None:
        """A new process looks once at what waits."""
        await self.waiting(**changed).look()

    def waiting(self, **changed: Any) -> Waiting:
        """A new process that looks at what waits."""
        executor = self.executor(**{"remediation_mode": Mode.APPROVE, **changed})
        return Waiting(executor, self.store, self.metrics, lambda: self.now)

    async def outcomes(self) -> list[str]:
        """The outcomes in the journal, in order."""
        return [line[0].outcome async for line in self.store.journal()]

    async def journal(self) -> list[dict[str, Any]]:
        """The bodies in the journal, in order."""
        return [dict(line[0].body) async for line in self.store.journal()]

    def pass_lease(self) -> None:
        self.now += timedelta(minutes=6)

    async def picture(self) -> dict[str, Any]:
        """Everything an action could change, from live state, in a form to compare."""
        iam = await self.accounts.client("iam")
        seen: dict[str, Any] = {"associations": await self.associations(), "password policy": await self.password_policy()}
        for role in (await iam.list_roles())["Roles"]:
            name = role["RoleName"]
            policies = (await iam.list_role_policies(RoleName=name))["PolicyNames"]
            documents = {p: (await iam.get_role_policy(RoleName=name, PolicyName=p))["PolicyDocument"] for p in policies}
            seen[f"role {name}"] = {"role": role, "policies": documents}
        for user in (await iam.list_users())["Users"]:
            name = user["UserName"]
            policies = (await iam.list_user_policies(UserName=name))["PolicyNames"]
            try:
                login = (await iam.get_login_profile(UserName=name))["LoginProfile"]
            except iam.exceptions.NoSuchEntityException:
                login = None
            seen[f"user {name}"] = {
                "user": user,
                "keys": {k["AccessKeyId"]: k["Status"] for k in (await iam.list_access_keys(UserName=name))["AccessKeyMetadata"]},
                "login": login,
                "policies": {p: (await iam.get_user_policy(UserName=name, PolicyName=p))["PolicyDocument"] for p in policies},
            }
        for profile in (await iam.list_instance_profiles())["InstanceProfiles"]:
            name = profile["InstanceProfileName"]
            full = (await iam.get_instance_profile(InstanceProfileName=name))["InstanceProfile"]
            seen[f"profile {name}"] = {
                "id": full["InstanceProfileId"],
                "path": full["Path"],
                "roles": [role["RoleName"] for role in full["Roles"]],
                "tags": full.get("Tags", []),
            }
        return seen

    async def associations(self, regions: tuple[str, ...] = ("us-east-1", "eu-west-1")) -> dict[str, tuple[str, str]]:
        """Instance id -> (profile's ARN, profile's id)."""
        found = {}
        for region in regions:
            ec2 = await self.accounts.client("ec2", region=region)
            for one in (await ec2.describe_iam_instance_profile_associations())["IamInstanceProfileAssociations"]:
                if one["State"] == "associated":
                    found[one["InstanceId"]] = (one["IamInstanceProfile"]["Arn"], one["IamInstanceProfile"]["Id"])
        return found

    async def password_policy(self) -> Any:
        """The account's, or None."""
        iam = await self.accounts.client("iam")
        try:
            return (await iam.get_account_password_policy())["PasswordPolicy"]
        except iam.exceptions.NoSuchEntityException:
            return None

    async def histories(self) -> list[History]:
        """What the journal tells of each task, in order."""
        return await histories(self.store.journal(), "")

    async def undo(self, begins: str = "", **changed: Any) -> Ending:
        """A new process undoes the first task of the journal whose id begins so, agreeing to what it is shown."""
        (history, *_) = await histories(self.store.journal(), begins)
        settings = replace(self.settings, **changed)
        undo = await Undo.of(history, self.means(settings.modes), Limits.of(settings))
        assert isinstance(undo, Undo), undo
        shown = await undo.prospect()
        return Ending("refused", shown.reason) if isinstance(shown, Refusal) else await undo.carry_out(shown.steps)

    def means(self, modes: Modes = AUTO) -> Means:
        """What a new process works with."""

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        accounts: Any = WiredAccounts(self.accounts, self.wire)
        return Means(self.store, accounts, modes, lambda: self.now, f"process-{next(self._owners)}", sleep)

    # The estate.

    async def user(self, name: str = "mallory", *, path: str = "/", password: bool = True) -> str:
        """A user, with a console password, and an access key whose id is answered."""
        iam = await self.accounts.client("iam")
        await iam.create_user(UserName=name, Path=path)
        if password:
            await iam.create_login_profile(UserName=name, Password="Long-Enough-1", PasswordResetRequired=False)
        key = await iam.create_access_key(UserName=name)
        return str(key["AccessKey"]["AccessKeyId"])

    async def role(self, name: str = "web-role", trust: Any = TRUST) -> None:
        iam = await self.accounts.client("iam")
        await iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))

    async def profile(self, name: str = "web", role: str | None = "web-role", path: str = "/fleet/") -> str:
        """An instance profile; its id is answered."""
        iam = await self.accounts.client("iam")
        made = await iam.create_instance_profile(InstanceProfileName=name, Path=path, Tags=[{"Key": "team", "Value": "web"}])
        if role is not None:
            await iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
        return str(made["InstanceProfile"]["InstanceProfileId"])

    async def instance(self, *, profile: str | None = "web", region: str = "us-east-1", stopped: bool = False) -> str:
        ec2 = await self.accounts.client("ec2", region=region)
        wanted: dict[str, Any] = {} if profile is None else {"IamInstanceProfile": {"Name": profile}}
        answer = await ec2.run_instances(ImageId="ami-12345678", InstanceType="t3.micro", MinCount=1, MaxCount=1, **wanted)
        made = str(answer["Instances"][0]["InstanceId"])
        if stopped:
            await ec2.stop_instances(InstanceIds=[made])
        return made

    async def lose_profile(self, name: str = "web", role: str = "web-role") -> None:
        """As the attacker's chain does it."""
        iam = await self.accounts.client("iam")
        await iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role)
        await iam.delete_instance_profile(InstanceProfileName=name)


def task(
    action: str,
    type_: str,
    name: str,
    params: dict[str, Any] | None = None,
    *,
    arn: str | None = None,
    account: str = ACCOUNT,
    finding: str = FINDING,
    created_at: datetime = NOW,
    **changed: Any,
) -> dict[str, Any]:
    """A task as dispatch writes it. Keyword arguments replace whole members."""
    return {
        "schema": "trailmend.task/1",
        "id": stable_id("task", finding, action, type_, account, name),
        "action": action,
        "target": {"type": type_, "name": name, "account": account, "arn": arn},
        "params": params or {},
        "finding": {
            "id": finding,
            "rule": {"id": "r", "title": "A rule", "level": "high"},
            "event": {
                "id": "e",
                "name": "CreateAccessKey",
                "source": "iam.amazonaws.com",
                "time": "2026-03-01T11:59:00Z",
                "region": "us-east-1",
                "account": account,
                "error_code": None,
            },
            "actor": {"type": "IAMUser", "arn": None, "name": "mallory", "account": account},
            "subject": {"type": type_, "name": name, "arn": arn},
        },
        "created_at": created_at.isoformat(),
        **changed,
    }
