"""Everything enabled: settings with which every part is used, what each part states that it calls, and what each role may then do."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import worker
from worker.authorization import permissions
from worker.dispatch.sinks import TARGETS
from worker.dispatch.sqs import SqsSink
from worker.enrich.investigator import KINDS
from worker.enrolment import EnrollMfa
from worker.least_policy import Least, Surroundings, least
from worker.remediate.actions import ACTIONS
from worker.roles import Role
from worker.settings import Settings

ENVIRONMENT = {
    "TRAILMEND_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/111122223333/main",
    "TRAILMEND_TASK_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/111122223333/tasks",
    "TRAILMEND_FINDING_SINKS": "https://sqs.eu-west-1.amazonaws.com/111122223333/findings, arn:aws:sns:eu-west-1:111122223333:findings, "
    "arn:aws:events:eu-west-1:111122223333:event-bus/security, arn:aws:states:eu-west-1:111122223333:stateMachine:triage",
    "TRAILMEND_STATE": "dynamodb://trailmend-state",
    "TRAILMEND_MEMBER_ROLE_NAME": "TrailmendMember",
    "TRAILMEND_EXTERNAL_ID": "0123456789abcdef",
    "TRAILMEND_REMEDIATION_MODE": "auto",
    "TRAILMEND_ALLOW_IRREVERSIBLE": "true",
    "TRAILMEND_EXEMPT_TAGS": "break-glass",
    "TRAILMEND_STOP_PARAMETER": "/trailmend/stop",
    "TRAILMEND_JOURNAL_EXPORT": "s3://journal/trailmend/",
}
AROUND = Surroundings("aws", "eu-west-1", "logs", "arn:aws:kms:eu-west-1:111122223333:key/1234", "tasks-dead")

ROLES_OF: Mapping[str, tuple[Role, ...]] = {
    "fact ": (Role.WORKER,),
    "sink ": (Role.WORKER,),
    "action ": (Role.EXECUTOR, Role.OPERATOR),
    "worker.aws": (Role.WORKER, Role.EXECUTOR),
    "worker.enrich.": (Role.WORKER,),
    "worker.ingest.objects": (Role.WORKER,),
    "worker.ingest.queue": (Role.WORKER, Role.EXECUTOR),
    "worker.remediate.": (Role.EXECUTOR,),
    "action mfa-enroll": (Role.OPERATOR,),
    "worker.sweep.": (Role.OPERATOR,),
    "worker.state.": (Role.WORKER, Role.EXECUTOR),
}
"""By how a part's name begins, who runs it: what it calls must be granted to one of them."""


@cache
def policy(role: Role) -> Least:
    """The policy of a role with everything enabled."""
    return least(role, Settings.from_environment(ENVIRONMENT), AROUND)


@cache
def granted(role: Role) -> frozenset[str]:
    """The actions in it."""
    return frozenset(action for one in policy(role).documents for statement in one["Statement"] for action in statement["Action"])


def demanded(call: str) -> frozenset[str]:
    """The actions that a call takes in any case; a key is allowed only where one is named."""
    return frozenset(permission.action for permission in permissions(call) if permission.kind != "key")


@cache
def stated() -> Mapping[str, frozenset[str]]:
    """By part, named as `recorder.py` names it, the calls that it states."""
    found = {f"fact {kind.name}": kind.calls for kind in KINDS if kind.calls}
    found |= {f"action {one.name}": (*one.calls.reads, *one.calls.changes, *one.calls.destroys) for one in (*ACTIONS, EnrollMfa())}
    sinks: tuple[type[Any], ...] = (SqsSink, *TARGETS.values())
    found |= {f"sink {sink.kind}": sink.calls for sink in sinks}
    names = [
        one.name
        for one in pkgutil.walk_packages(worker.__path__, "worker.")
        if not one.name.startswith(("worker.local", "worker.__main__"))
    ]
    for name in names:
        calls = getattr(importlib.import_module(name), "AWS_CALLS", None)
        if calls is not None:
            found[name] = calls
    return {part: frozenset(calls) for part, calls in found.items()}
