"""The least IAM policy for what is enabled: from the settings and what every part says that it calls, to policy documents. Pure.

In go a role, the settings and what they do not tell (`Surroundings`); out come documents as IAM takes them, and remarks for whoever attaches them.
What a part calls stands beside the part, and what a call takes in `authorization.py`: here stands only which parts a role is made of, when, and on which
resources. They are as narrow as IAM and the settings allow. Accounts are `*` in the ARNs of IAM's and EC2's own things, because an identity's
policy reaches into no other account by itself. A newcomer's part is a line in the method of its role.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from worker import aws
from worker.addresses import Address
from worker.authorization import ANYTHING, Condition, permissions
from worker.aws import queue_region
from worker.dispatch.sinks import TARGETS
from worker.dispatch.sqs import SqsSink
from worker.enrich import snapshots
from worker.enrich.instances import REGIONS_CALLS
from worker.enrich.investigator import KINDS
from worker.enrolment import EnrollMfa
from worker.ingest import objects, queue
from worker.modes import Mode
from worker.remediate import archive, attempt, halt, quarantine, sentry
from worker.remediate.actions import ACTIONS
from worker.remediate.steps import Action
from worker.roles import Role
from worker.settings import Settings, SettingsError
from worker.state import table
from worker.sweep import states

MOST_CHARACTERS = 6144
"""Of a managed policy, white space aside: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entity-length"""

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the settings do not tell: where the worker runs, the bucket of the logs and the key that they are encrypted with, and the name of the
    dead-letter queue of the tasks.
    """

    partition: str = "aws"
    region: str | None = None
    bucket: str | None = None
    key_arn: str | None = None
    dead_letter_queue: str | None = None


@dataclass(frozen=True, slots=True)
class Least:
    """The documents, of which each is a managed policy of its own, and what there is to say about them."""

    documents: tuple[Document, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """The resources of one kind, and what a statement about them is called. Where there is none, nothing is allowed."""

    sid: str
    arns: tuple[str, ...]


def least(role: Role, settings: Settings, around: Surroundings) -> Least:
    """What a role must be allowed. Raises `SettingsError` where the role could not do its work with these settings."""
    drawing = _Drawing(settings, around)
    {
        Role.WORKER: drawing.worker,
        Role.EXECUTOR: drawing.executor,
        Role.OPERATOR: drawing.operator,
        Role.SCANNER: drawing.scanner,
        Role.MEMBER_WORKER: drawing.member_worker,
        Role.MEMBER_EXECUTOR: drawing.member_executor,
        Role.MEMBER_OPERATOR: drawing.member_operator,
    }[role]()
    documents = packed(drawing.statements())
    if len(documents) > 1:
        drawing.remarks.append(
            f"{len(documents)} documents, because a managed policy has at most {MOST_CHARACTERS} characters: attach each"
        )
    return Least(tuple(documents), tuple(drawing.remarks))


class _Drawing:
    """One policy while it is drawn."""

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self._allowed: dict[tuple[str, tuple[str, ...], Condition | None], set[str]] = {}
        self.remarks: list[str] = []

    # The roles.

    def worker(self) -> None:
        settings = self._settings
        self._consume(_required(settings.queue_url, "QUEUE_URL", Role.WORKER))
        self._read(objects.FETCH_CALLS)
        task_queue = () if settings.task_queue_url is None else (Address("tasks", settings.task_queue_url),)
        self._tell((*task_queue, *settings.task_sinks, *settings.finding_sinks))
        self._keep_state()
        self._allow(self._facts())
        if settings.member_role_name is not None and not settings.accounts and settings.snapshot_seconds:
            self._allow(snapshots.SCOPE_CALLS)
        self._enter()

    def executor(self) -> None:
        self._consume(_required(self._settings.task_queue_url, "TASK_QUEUE_URL", Role.EXECUTOR))
        self._quarantine(_required(self._settings.task_queue_url, "TASK_QUEUE_URL", Role.EXECUTOR))
        self._keep_state()
        self._allow(attempt.AWS_CALLS)
        self._mend_by_itself()
        self._heed_a_stop()
        # People are told where findings go of what waits for them.
        self._tell(self._settings.finding_sinks)
        self._export_journal()
        self._enter()

    def operator(self) -> None:
        self._keep_state()
        self._allow(attempt.AWS_CALLS)
        self._mend_by_hand()
        self._heed_a_stop()
        self._export_journal()
        self._enter()

    def scanner(self) -> None:
        self._read(objects.AWS_CALLS)

    def member_worker(self) -> None:
        _required(self._settings.member_role_name, "MEMBER_ROLE_NAME", Role.MEMBER_WORKER)
        self._allow(self._facts())

    def member_executor(self) -> None:
        _required(self._settings.member_role_name, "MEMBER_ROLE_NAME", Role.MEMBER_EXECUTOR)
        self._mend_by_itself()

    def member_operator(self) -> None:
        _required(self._settings.member_role_name, "MEMBER_ROLE_NAME", Role.MEMBER_OPERATOR)
        self._mend_by_hand()

    # What they are made of.

    def _consume(self, url: str) -> None:
        arn = self._queue_arn(url)
        self._allow(queue.QUEUE_CALLS, {"queue": _Place("Queue", (arn,))})
        # Its name stands in the queue's redrive policy alone; it is of the same region and account:
        # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
        self._allow(queue.DEAD_LETTER_CALLS, {"queue": _Place("DeadLetterQueue", (f"{arn.rpartition(':')[0]}:*",))})
        self.remarks.append("no setting names the dead-letter queue: the depth of any queue of its account and region may be read")

    def _quarantine(self, url: str) -> None:
        named = self._around.dead_letter_queue
        beside = f"{self._queue_arn(url).rpartition(':')[0]}:{named or '*'}"
        if named is None:
            self.remarks.append(
                "no setting names the dead-letter queue of the tasks: messages may be sent to any queue of its account and region; "
                "--dead-letter-queue NAME names the one"
            )
        self._allow(quarantine.AWS_CALLS, {"queue": _Place("Quarantine", (beside,))})

    def _mend_by_itself(self) -> None:
        self._mend([by_itself(action, self._settings) for action in ACTIONS])

    def _mend_by_hand(self) -> None:
        """Whoever works by hand sweeps and enrols too."""
        calls = [by_hand(action, self._settings) for action in (*ACTIONS, EnrollMfa())]
        self._mend([*calls, states.AWS_CALLS] if any(calls) else [])

    def _mend(self, calls: Sequence[tuple[str, ...]]) -> None:
        self._allow(chain.from_iterable(calls))
        if any(calls):
            self._allow(sentry.ROSTER_CALLS)
            self._allow(sentry.TAG_CALLS if self._settings.exempt_tags else ())

    def _heed_a_stop(self) -> None:
        name = self._settings.stop_parameter
        if name is not None:
            around = self._around
            arn = f"arn:{around.partition}:ssm:{around.region or '*'}:*:parameter/{name.removeprefix('/')}"
            self._allow(halt.AWS_CALLS, {"parameter": _Place("Stop", (arn,))})

    def _read(self, calls: Iterable[str]) -> None:
        around = self._around
        if around.bucket is None:
            self.remarks.append("no setting names the bucket of the logs: every bucket may be read; --bucket NAME names the one")
        if around.key_arn is None:
            self.remarks.append("logs that are encrypted with a KMS key cannot be read: --key ARN allows to decrypt with it")
        bucket = f"arn:{around.partition}:s3:::{around.bucket or '*'}"
        keys = () if around.key_arn is None else (around.key_arn,)
        self._allow(
            calls, {"object": _Place("Objects", (f"{bucket}/*",)), "bucket": _Place("Bucket", (bucket,)), "key": _Place("Key", keys)}
        )

    def _tell(self, addresses: Sequence[Address]) -> None:
        by_service: dict[str, list[str]] = {}
        for url in (address.url for address in addresses):
            scheme = urlsplit(url).scheme
            if scheme == "arn":
                by_service.setdefault(url.split(":")[2], []).append(_unqualified(url))
            elif scheme in ("http", "https"):
                by_service.setdefault("sqs", []).append(self._queue_arn(url))
        kinds = {"sqs": ("queue", "Queues"), "sns": ("topic", "Topics"), "events": ("event-bus", "EventBuses")}
        kinds["states"] = ("statemachine", "StateMachines")
        for service, arns in by_service.items():
            kind, sid = kinds[service]
            calls = SqsSink.calls if service == "sqs" else TARGETS[service].calls
            self._allow(calls, {kind: _Place(f"Tell{sid}", tuple(sorted(set(arns))))})

    def _keep_state(self) -> None:
        scheme, _, name = self._settings.state.partition("://")
        if scheme == "dynamodb":
            arn = f"arn:{self._around.partition}:dynamodb:{self._around.region or '*'}:*:table/{name}"
            self._allow(table.AWS_CALLS, {"table": _Place("StateTable", (arn,))})

    def _export_journal(self) -> None:
        place = self._settings.journal_export
        if place is not None:
            bucket = f"arn:{self._around.partition}:s3:::{place.bucket}"
            there = {"object": _Place("JournalObjects", (f"{bucket}/{place.prefix}*",)), "bucket": _Place("JournalBucket", (bucket,))}
            self._allow(archive.AWS_CALLS, {**there, "key": _Place("Key", ())})

    def _facts(self) -> set[str]:
        asked = set(chain.from_iterable(kind.calls for kind in KINDS))
        asked |= set(snapshots.LOOK_CALLS if self._settings.snapshot_seconds else ())
        # Whom the settings name the regions, nobody is asked for them.
        return asked - set(REGIONS_CALLS if self._settings.regions else ())

    def _enter(self) -> None:
        name = self._settings.member_role_name
        arns = () if name is None else (f"arn:{self._around.partition}:iam::*:role/{name}",)
        self._allow(aws.AWS_CALLS, {"role": _Place("MemberRoles", arns)})

    def _queue_arn(self, url: str) -> str:
        parts = urlsplit(url).path.strip("/").split("/")
        account = parts[-2] if len(parts) > 1 else "*"
        return f"arn:{self._around.partition}:sqs:{queue_region(url) or self._around.region or '*'}:{account}:{parts[-1]}"

    # Statements.

    def _allow(self, calls: Iterable[str], places: Mapping[str, _Place] | None = None) -> None:
        there = {**self._anywhere, **(places or {})}
        for permission in chain.from_iterable(permissions(call) for call in calls):
            place = there[permission.kind]
            if place.arns:
                sid = place.sid if permission.condition is None else f"Pass{place.sid}"
                self._allowed.setdefault((sid, place.arns, permission.condition), set()).add(permission.action)

    @property
    def _anywhere(self) -> Mapping[str, _Place]:
        """What belongs to whatever account the policy is used in."""
        arn = f"arn:{self._around.partition}"
        return {
            ANYTHING: _Place("Account", ("*",)),
            "environment": _Place("BeanstalkEnvironments", (f"{arn}:elasticbeanstalk:*:*:environment/*",)),
            "group": _Place("Groups", (f"{arn}:iam::*:group/*",)),
            "mfa": _Place("MfaDevices", (f"{arn}:iam::*:mfa/*",)),
            "instance": _Place("Instances", (f"{arn}:ec2:*:*:instance/*",)),
            "instance-profile": _Place("InstanceProfiles", (f"{arn}:iam::*:instance-profile/*",)),
            "policy": _Place("Policies", (f"{arn}:iam::*:policy/*",)),
            "role": _Place("Roles", (f"{arn}:iam::*:role/*",)),
            "user": _Place("Users", (f"{arn}:iam::*:user/*",)),
        }

    def statements(self) -> list[Document]:
        """By their names, each with its actions in order."""
        made: list[Document] = []
        for (sid, arns, condition), actions in sorted(self._allowed.items(), key=lambda one: one[0][0]):
            statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": list(arns)}
            if condition is not None:
                operator, key, value = condition
                statement["Condition"] = {operator: {key: value}}
            made.append(statement)
        return made


def by_itself(action: Action, settings: Settings) -> tuple[str, ...]:
    """What the executor calls for tasks of an action: nothing in mode off, no more than to look in mode shadow.

    It is what any mode asks for that the action has in an account. What people approve may be what no call could undo; in mode auto that is withheld
    unless the settings allow it, before the breaker would ask people.
    """
    modes, calls = settings.modes.anywhere(action.name), action.calls
    if modes == {Mode.OFF}:
        return ()
    acts = not modes.isdisjoint((Mode.APPROVE, Mode.AUTO))
    destroys = Mode.APPROVE in modes or (Mode.AUTO in modes and settings.allow_irreversible)
    return (*calls.reads, *(calls.changes if acts else ()), *(calls.destroys if destroys else ()))


def by_hand(action: Action, settings: Settings) -> tuple[str, ...]:
    """What is called for an action, or its undo, that a person has asked for and agreed to: all, in every mode but off."""
    if settings.modes.anywhere(action.name) == {Mode.OFF}:
        return ()
    calls = action.calls
    return (*calls.reads, *calls.changes, *(calls.destroys if settings.allow_irreversible else ()))


def packed(statements: Sequence[Document], most_characters: int = MOST_CHARACTERS) -> list[Document]:
    """The statements in as few documents as hold them in their order. One that no document could hold by itself is halved."""
    documents: list[list[Document]] = []
    for statement in chain.from_iterable(_halved(one, most_characters) for one in statements):
        if documents and _size([*documents[-1], statement]) <= most_characters:
            documents[-1].append(statement)
        else:
            documents.append([statement])
    return [_document(one) for one in documents]


def _halved(statement: Document, most_characters: int) -> list[Document]:
    longer = max(("Action", "Resource"), key=lambda name: len(json.dumps(statement[name])))
    half = len(statement[longer]) // 2
    if _size([statement]) <= most_characters or half == 0:
        return [statement]
    first = {**statement, longer: statement[longer][:half]}
    second = {**statement, "Sid": f"{statement['Sid']}2", longer: statement[longer][half:]}
    return [*_halved(first, most_characters), *_halved(second, most_characters)]


def _document(statements: Sequence[Document]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _size(statements: Sequence[Document]) -> int:
    return len(json.dumps(_document(statements), separators=(",", ":")))


def _unqualified(arn: str) -> str:
    """The ARN of a state machine without its alias or version, by which nothing is allowed; any other ARN as it is."""
    parts = arn.split(":")
    return ":".join(parts[:7]) if parts[2] == "states" else arn


def _required(value: str | None, name: str, role: Role) -> str:
    if value is None:
        raise SettingsError([f"TRAILMEND_{name}: must be set for `trailmend policy --role {role}`: without it there is no such role"])
    return value
