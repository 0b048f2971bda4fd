"""A task message, read as what it is: untrusted input. Pure.

In goes the body of a queue message, out comes a `TaskMessage` or a `TaskRefusedError` whose reason is one of `REASONS`. Whoever can write to the
task queue wrote it, so: its size is bounded before it is parsed and its depth right after, its signature is checked before anything else of it is looked at (where
there is a key), its form is held to the shipped JSON Schema, its `params` to the schema of its action, every name to the letters AWS allows, its id to what an id
of this task must be, and its target to what its finding supports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from worker.model import Target, stable_id
from worker.remediate import support
from worker.remediate.steps import Action
from worker.signature import MEMBER, is_signed

TASK_SCHEMA = "trailmend.task/1"
"""The form of messages that is read here."""

MAX_BODY_BYTES = 256 * 1024
"""Far above any task of ours, and what a journal line can hold in any store."""

DEEPEST = 50
"""Lists and objects within each other. Ours have fewer than ten; what is read here is written again, and no writer goes down for ever."""

REASONS = (
    "oversized",
    "not-json",
    "unsigned",
    "wrong-signature",
    "wrong-schema",
    "wrong-params",
    "unknown-action",
    "wrong-id",
    "unsupported",
    "role-not-remembered",
)
"""The last one is `support.remembered`'s."""

_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-names
_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}", re.ASCII)


class TaskRefusedError(Exception):
    """The message is no task that could be worked. `reason` is one of `REASONS`; the text says what is wrong and where."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A task as it came off the queue, in good form. `params` is as the action's schema wants it; `finding` is for the journal.

    `happened_at` is when the event of its finding was, where that is told.
    """

    id: str
    action: Action
    target: Target
    params: Mapping[str, Any]
    finding: Mapping[str, Any]
    created_at: datetime
    happened_at: datetime | None = None

    @property
    def claim(self) -> str:
        """The key of the right to work it."""
        return f"remediate:{self.id}"

    @property
    def lock(self) -> str:
        """The key of the right to change its target: of a key its user, for two of them may be the last ways in of one."""
        owner = self.params.get("user") if self.target.type == "access-key" else None
        type_, name = (self.target.type, self.target.name) if owner is None else ("user", owner)
        return f"target:{self.target.account}:{type_}:{name}"

    @property
    def begun(self) -> str:
        """The key of its having been begun: a line `started` is in the journal."""
        return f"begun:{self.id}"

    def as_dict(self) -> dict[str, Any]:
        """The task as the journal keeps it."""
        target = self.target
        return {
            "id": self.id,
            "action": self.action.name,
            "target": {"type": target.type, "name": target.name, "account": target.account, "arn": target.arn},
            "params": dict(self.params),
            "finding": dict(self.finding),
            "created_at": self.created_at.isoformat(),
        }


class TaskReader:
    """Reads messages for the actions given. With `keys`, one that is received must be signed by one of them."""

    def __init__(self, actions: Iterable[Action], keys: Sequence[bytes] = ()) -> None:
        self._keys = tuple(keys)
        self._actions = {action.name: (action, Draft202012Validator(action.params)) for action in actions}
        # By path: dispatch writes tasks and this reads them, and neither knows the other's code.
        schema = resources.files("worker").joinpath("dispatch", "schemas", "task.schema.json").read_bytes()
        self._envelope = Draft202012Validator(orjson.loads(schema))

    def receive(self, body: str) -> TaskMessage:
        """The task in the body of a queue's message. Raises `TaskRefusedError`."""
        value = _parsed(body)
        if self._keys and isinstance(value, dict):
            _hold_to_keys(value, self._keys)
        task = self._task(value)
        if task.happened_at is None and value["finding"]["event"]["time"] is not None:
            raise TaskRefusedError("wrong-schema", "finding.event.time: not an RFC 3339 time with its zone")
        missing = support.missing(task.action.name, task.target, task.params, task.finding)
        if missing is not None:
            raise TaskRefusedError("unsupported", missing)
        return task

    def read(self, body: str) -> TaskMessage:
        """The task in a text of our own, such as the journal's: held to its form alone. Raises `TaskRefusedError`."""
        return self._task(_parsed(body))

    def take_up(self, task: Mapping[str, Any]) -> TaskMessage:
        """The task that `TaskMessage.as_dict` told, held to its form alone. Raises `TaskRefusedError`."""
        try:
            body = orjson.dumps({"schema": TASK_SCHEMA, **task}).decode()
        except orjson.JSONEncodeError as error:
            raise TaskRefusedError("wrong-schema", f"it cannot be written as JSON: {error}") from None
        return self.read(body)

    def _task(self, value: Any) -> TaskMessage:
        _hold(self._envelope, value, "wrong-schema")
        created_at = _moment(value["created_at"])
        if created_at is None:
            raise TaskRefusedError("wrong-schema", "created_at: not an RFC 3339 time with its zone")
        target = Target(**value["target"])
        if not _ACCOUNT.fullmatch(target.account):
            raise TaskRefusedError("wrong-schema", "target.account: not 12 digits")
        if not _NAME.fullmatch(target.name):
            raise TaskRefusedError("wrong-schema", "target.name: has letters that no IAM name has, or too many")
        if value["action"] not in self._actions:
            raise TaskRefusedError("unknown-action", f"there is no action {value['action']!r}; there are {', '.join(self._actions)}")
        action, params = self._actions[value["action"]]
        _hold(params, value["params"], "wrong-params")
        if target.type != action.target_type:
            raise TaskRefusedError(
                "wrong-params", f"target.type: {action.name} acts on a target of type {action.target_type}, not {target.type}"
            )
        if value["id"] != stable_id("task", value["finding"]["id"], action.name, target.type, target.account, target.name):
            raise TaskRefusedError("wrong-id", "id: not the id of this action on this target for this finding")
        happened_at = _moment(value["finding"]["event"]["time"])
        return TaskMessage(value["id"], action, target, value["params"], value["finding"], created_at, happened_at)


def _parsed(body: str) -> Any:
    size = len(body.encode("utf-8", "surrogatepass"))
    if size > MAX_BODY_BYTES:
        raise TaskRefusedError("oversized", f"{size} bytes; a task has at most {MAX_BODY_BYTES}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TaskRefusedError("not-json", str(error)) from None
    _hold_to_depth(value)
    return value


def _hold_to_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        members = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [inner for some in members for inner in some if isinstance(inner, dict | list)]
        if not level:
            return
    raise TaskRefusedError("wrong-schema", f"more than {DEEPEST} lists and objects within each other")


def _hold_to_keys(value: Mapping[str, Any], keys: Sequence[bytes]) -> None:
    if MEMBER not in value:
        raise TaskRefusedError(
            "unsigned", f"it has no member {MEMBER}, and TRAILMEND_TASK_KEY is set: whoever writes tasks must have it too"
        )
    if not is_signed(value, keys):
        raise TaskRefusedError("wrong-signature", f"{MEMBER}: made by no secret of TRAILMEND_TASK_KEY, or for another task than this")


def _hold(validator: Draft202012Validator, value: Any, reason: str) -> None:
    fault = next(validator.iter_errors(value), None)
    if fault is not None:
        # The value stands in jsonschema's own message, and may be as long as the body.
        raise TaskRefusedError(reason, f"{fault.json_path[:200]}: {fault.message[:300]}")


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
