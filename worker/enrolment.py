"""An MFA device for a user: made, enabled with two of its codes, read back and journaled; or deleted again.

Nobody but the holder of the device can enable it, so this is no plan that runs by itself and no action that a task may ask for: `begin` hands out the seed, a
person takes it into an authenticator, and `enable` takes two codes. The seed is in the answer of `begin` and nowhere else: no log and no line of the
journal has it. An enrolment is not undone here, for that would take MFA from its user.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_mfa_enable_virtual.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

from botocore.exceptions import ClientError

from worker.aws import explain
from worker.model import Target, stable_id
from worker.remediate.actions.enforce_mfa import POLICY_NAME
from worker.remediate.attempt import FAILURES, SETTLING_WAITS, Attempt, Means, StoppedError, reason
from worker.remediate.errand import guards_say, live_guards_say
from worker.remediate.guards import Identity, Limits
from worker.remediate.inline import InlinePolicy
from worker.remediate.keys import owner_arn
from worker.remediate.sentry import Sentry
from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted
from worker.remediate.tasks import TaskMessage
from worker.state.store import Claim

ISSUER = "Amazon Web Services"


class WrongCodesError(Exception):
    """AWS does not take the two codes; others may be tried."""


@dataclass(frozen=True, slots=True)
class Device:
    """A virtual device that was made. `uri` is what its QR code says."""

    serial: str
    user: str
    account: str
    seed: str = field(repr=False)

    @property
    def uri(self) -> str:
        """https://github.com/google/google-authenticator/wiki/Key-Uri-Format"""
        return f"otpauth://totp/{quote(f'{ISSUER}:{self.user}@{self.account}', safe=':@')}?secret={self.seed}&issuer={quote(ISSUER)}"


@dataclass(frozen=True, slots=True)
class EnrollMfa:
    """The target is the user; `params.device` is the device's name, `params.another` whether it may be one more."""

    name: ClassVar[str] = "mfa-enroll"
    target_type: ClassVar[str] = "user"
    undoing: ClassVar[str] = "an enrolment is not undone here: that would take MFA from its user"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:GetUserPolicy", "iam:ListMFADevices"),
        changes=("iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "iam:DeleteVirtualMFADevice"),
    )
    params: ClassVar[Mapping[str, Any]] = {"type": "object", "required": ["device", "another"]}

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """As of an action, and as wanted once the device is the user's; the two codes, which it cannot know, are left out."""
        user, device = task.target.name, task.params["device"]
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        devices = [one["SerialNumber"] for one in (await iam.list_mfa_devices(UserName=user))["MFADevices"]]
        held = await InlinePolicy("User", user, POLICY_NAME).read(iam)
        state = {"user": owner, "mfa_devices": devices, "held_by": None if held is None else POLICY_NAME}
        serial = f"arn:{owner.split(':')[1]}:iam::{task.target.account}:mfa/{device}"
        if serial in devices:
            return Plan((), state, (owner,))
        if devices and not task.params["another"]:
            return Refusal(
                "has-mfa", f"user {user} has an MFA device already: {', '.join(devices)}; --another and --device NAME give one more", state
            )
        steps = (
            Step("iam", "CreateVirtualMFADevice", {"VirtualMFADeviceName": device}, f"make the virtual MFA device {serial}"),
            _enabling(user, serial, {}),
        )
        return Plan(steps, state, (owner,))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:  # noqa: ARG002  # whatever live state says
        """Always refused."""
        return Refusal("not-undone", f"the MFA device of user {task.target.name} is not taken away here")


def enrolment_of(user: str, account: str, device: str, run: str, approver: str, means: Means, *, another: bool) -> TaskMessage:
    """The task of an enrolment, for claims and the journal. `run` tells it from earlier ones."""
    now, finding = means.clock(), stable_id("enrolment", run, account, user)
    event = {"id": run, "name": "MfaEnroll", "source": "trailmend", "time": now.isoformat(), "region": None, "account": account}
    told = {
        "id": finding,
        "rule": {"id": EnrollMfa.name, "title": "Enrolment of an MFA device", "level": "informational"},
        "event": {**event, "error_code": None},
        "actor": {"type": "Operator", "arn": approver, "name": None, "account": None},
        "subject": {"type": "user", "name": user, "arn": None},
    }
    task = stable_id("task", finding, EnrollMfa.name, "user", account, user)
    return TaskMessage(task, EnrollMfa(), Target("user", user, account), {"device": device, "another": another}, told, now)


class Enrolment:
    """One enrolment, in the order of its methods. Each raises one of `FAILURES`, and `StoreError`."""

    def __init__(self, means: Means, limits: Limits, task: TaskMessage, own: Identity, approver: str) -> None:
        self._means = means
        self._limits = limits
        self._sentry = Sentry(limits)
        self._task = task
        self._attempt = Attempt(
            means, task, lambda clients: task.action.plan(task, clients), own, f"{means.owner}:{task.id}", approver=approver
        )

    async def prospect(self) -> Plan | Refusal:
        """What would be done; a guard's no is a refusal too."""
        against = guards_say(self._attempt, self._limits)
        if against is None:
            plan = await self._attempt.look()
            if isinstance(plan, Refusal):
                return plan
            if not plan.steps:
                says = f"user {self._task.target.name} has this MFA device already; --another and --device NAME give one more"
                return Refusal("has-mfa", says, plan.state)
            against = await live_guards_say(self._attempt, plan, self._limits, self._sentry, acting=False)
            if against is None:
                return plan
        return Refusal(against.reason, against.says)

    async def begin(self) -> Device | Refusal:
        """Make the device."""
        if await self._attempt.claim(self._task.claim, self._task.lock) is not Claim.WON:
            return Refusal("busy", "somebody is at work on this user, or died at it: try again in 5 minutes")
        try:
            plan = await self.prospect()
            if isinstance(plan, Refusal):
                await self._attempt.release()
                return plan
            await self._attempt.journal("started", None)
            made = (await self._attempt.call(plan.steps[0]))["VirtualMFADevice"]
        except FAILURES as error:
            said = reason(error)
            if explain(error).code == "EntityAlreadyExists":
                said += " (an enrolment that died may have left it: delete it, or give --device another name)"
            await self._ended("failed", said)
            raise StoppedError(said) from error
        target = self._task.target
        return Device(made["SerialNumber"], target.name, target.account, made["Base32StringSeed"].decode("ascii"))

    async def enable(self, device: Device, first: str, second: str) -> Mapping[str, Any]:
        """Enable it and read back; the state after. Raises `WrongCodesError` too."""
        codes = {"AuthenticationCode1": first, "AuthenticationCode2": second}
        try:
            await self._attempt.call(_enabling(device.user, device.serial, codes))
        except ClientError as error:
            if explain(error).code == "InvalidAuthenticationCode":
                raise WrongCodesError from error
            raise
        for wait in (*SETTLING_WAITS, None):
            state = await self._enabled(device)
            if state is not None:
                await self._ended("enrolled", None, state)
                return state
            if wait is not None:
                await self._means.sleep(wait)
        raise StoppedError(f"reading back does not show {device.serial} with user {device.user}")

    async def abandon(self, device: Device, why: str) -> str | None:
        """Delete the device again. None, or in words what is left of it."""
        left = None
        try:
            # The answer to a call that enabled it may have been lost.
            state = await self._enabled(device)
            if state is not None:
                await self._ended("enrolled", why, state)
                return f"the device {device.serial} is enabled: user {device.user} has it now"
            parameters = {"SerialNumber": device.serial}
            await self._attempt.call(Step("iam", "DeleteVirtualMFADevice", parameters, f"delete the virtual MFA device {device.serial}"))
        except FAILURES as error:
            left = (
                f"the unassigned device {device.serial} is left, for it could not be deleted ({reason(error)}): "
                f"delete it with `aws iam delete-virtual-mfa-device --serial-number {device.serial}`"
            )
        await self._ended("abandoned", why if left is None else f"{why}; {left}")
        return left

    async def _enabled(self, device: Device) -> Mapping[str, Any] | None:
        plan = await self._attempt.look()
        return plan.state if isinstance(plan, Plan) and device.serial in plan.state["mfa_devices"] else None

    async def _ended(self, outcome: str, why: str | None, after: Mapping[str, Any] | None = None) -> None:
        await self._attempt.journal(outcome, why, after=after)
        await self._attempt.release()


def _enabling(user: str, serial: str, codes: Mapping[str, str]) -> Step:
    parameters = {"UserName": user, "SerialNumber": serial, **codes}
    return Step("iam", "EnableMFADevice", parameters, f"enable it for user {user} with two of its codes")
