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
from botocore.parsers import ResponseParserError

from worker.aws import AccountClosedError, explain
from worker.model import Target, stable_id
from worker.modes import Mode
from worker.remediate.actions.enforce_mfa import POLICY_NAME
from worker.remediate.attempt import FAILURES, SETTLING_WAITS, Attempt, Means, StoppedError, reason
from worker.remediate.errand import guards_say, live_guards_say
from worker.remediate.guards import Identity, Limits
from worker.remediate.inline import InlinePolicy
from worker.remediate.keys import owner_arn
from worker.remediate.sentry import Sentry
from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted
from worker.remediate.tasks import TaskMessage
from worker.state.store import Claim, StoreError

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
    """One enrolment, in the order of its methods. Each but `abandon` raises one of `FAILURES`, and `StoreError`."""

    def __init__(self, means: Means, limits: Limits, task: TaskMessage, own: Identity, approver: str) -> None:
        self._means = means
        self._limits = limits
        self._sentry = Sentry(limits)
        self._task = task
        self.serial: str | None = None
        """Of the device that there may be by now, on account of this enrolment."""
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
        """Make the device. What it raises, `CancelledError` among it, may leave one: where `serial` is not None afterwards, `abandon` is called for."""
        task, attempt = self._task, self._attempt
        if attempt.mode is Mode.OFF:
            return Refusal("off", f"the mode of {task.action.name} in {task.target.account} is off")
        if await attempt.claim(task.claim, task.lock) is not Claim.WON:
            return Refusal("busy", "somebody is at work on this user, or died at it: try again in 5 minutes")
        try:
            plan = await self.prospect()
            if isinstance(plan, Refusal):
                await attempt.release()
                return plan
            await attempt.journal("started", None)
        except FAILURES as error:
            await self._ended("failed", reason(error))
            raise StoppedError(reason(error)) from error
        making, enabling = plan.steps
        self.serial = str(enabling.parameters["SerialNumber"])
        made = await self._made(making, self.serial)
        return Device(made["SerialNumber"], task.target.name, task.target.account, made["Base32StringSeed"].decode("ascii"))

    async def _made(self, making: Step, serial: str) -> Mapping[str, Any]:
        try:
            return (await self._attempt.call(making))["VirtualMFADevice"]  # type: ignore[no-any-return]
        except ResponseParserError:
            # Its text is the whole answer, with the seed in it.
            raise StoppedError("AWS's answer, with the device in it, could not be read") from None
        except (ClientError, StoppedError, AccountClosedError) as error:
            # Refused, or never asked. An earlier try that had no answer may have made it all the same.
            self.serial = None
            said = reason(error)
            if isinstance(error, ClientError) and (explain(error).code == "EntityAlreadyExists" or _is_retried(error)):
                said += (
                    f" (there may be an unassigned device of this name, left by an earlier enrolment or by this one, whose first try had no answer: "
                    f"delete it with `{_deleting(serial)}`, or give --device another name)"
                )
            await self._ended("failed", said)
            raise StoppedError(said) from error

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
            state = await self._enabled(device.serial)
            if state is not None:
                await self._ended("enrolled", None, state)
                return state
            if wait is not None:
                await self._means.sleep(wait)
        raise StoppedError(f"reading back does not show {device.serial} with user {device.user}")

    async def abandon(self, why: str) -> str | None:
        """Delete the device again that `begin` made, or may have made. None, or in words what is left. Raises none of `FAILURES`, nor `StoreError`."""
        serial, user = str(self.serial), self._task.target.name
        left, state = None, None
        try:
            # The answer to a call that enabled it may have been lost.
            state = await self._enabled(serial)
            if state is None:
                await self._attempt.call(
                    Step("iam", "DeleteVirtualMFADevice", {"SerialNumber": serial}, f"delete the virtual MFA device {serial}")
                )
            else:
                left = f"the device {serial} is enabled: user {user} has it now"
        except (*FAILURES, StoreError) as error:
            said = str(error) if isinstance(error, StoreError) else reason(error)
            left = f"the unassigned device {serial} may be left, for it could not be deleted ({said}): delete it with `{_deleting(serial)}`"
        try:
            if state is None:
                await self._ended("abandoned", why if left is None else f"{why}; {left}")
            else:
                await self._ended("enrolled", why, state)
        except StoreError as error:
            left = f"{left or f'the device {serial} was deleted again'}; the journal could not be told of it: {error}"
        return left

    async def _enabled(self, serial: str) -> Mapping[str, Any] | None:
        plan = await self._attempt.look()
        return plan.state if isinstance(plan, Plan) and serial in plan.state["mfa_devices"] else None

    async def _ended(self, outcome: str, why: str | None, after: Mapping[str, Any] | None = None) -> None:
        await self._attempt.journal(outcome, why, after=after)
        await self._attempt.release()


def _enabling(user: str, serial: str, codes: Mapping[str, str]) -> Step:
    parameters = {"UserName": user, "SerialNumber": serial, **codes}
    return Step("iam", "EnableMFADevice", parameters, f"enable it for user {user} with two of its codes")


def _deleting(serial: str) -> str:
    return f"aws iam delete-virtual-mfa-device --serial-number {serial}"


def _is_retried(error: ClientError) -> bool:
    return bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts"))
