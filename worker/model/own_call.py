"""Our own calls to AWS: what stands in each of them, and what is written down of it, so that its CloudTrail record is known for ours. Pure.

A session name, a source identity and a user agent are claimed by whoever makes a call, so they only say which records are worth a question (`is_marked`).
A record is ours where its request id, which AWS gives, was written down after the call. A call that was made and never answered (its process died, the
network failed) has no known request id: its user agent holds a token that nobody else knew before the call, and the first record that shows the token, of
the call that was intended, is taken for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from worker.model.record import Record

MARK = "trailmend"
"""Our role session name and source identity, and a word in the user agent of every call."""
INTENDED_FOR = timedelta(minutes=5)
"""A call with all its tries (4 times 35 s) is over by then; what shows a token later is somebody else's."""
NAMED = ("userName", "accessKeyId", "instanceProfileName", "roleName", "policyName", "status")
"""The parameters of our calls of IAM that CloudTrail tells as they were sent: whom a call is on, and to what end. Of EC2's it spells some anew."""
CLOCKS_APART = timedelta(minutes=1)

_SESSION = f"/{MARK}"
_TOKEN = re.compile(r"trailmend-call/([a-z-]{1,64}\.[A-Za-z0-9-]{1,64}\.([0-9]{10,11})\.[0-9a-f]{32})(?![0-9a-f])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Intention:
    """A call that is about to be made: the API as AWS spells it, in an account. `token` stands in its user agent.

    `named` is a digest of those of its parameters that are `NAMED`; "" for a call of EC2, which is known by its API alone.
    """

    token: str
    account: str
    source: str
    api: str
    named: str

    @classmethod
    def of(
        cls,
        action: str,
        task_id: str,
        secret: str,
        now: datetime,
        account: str,
        service: str,
        api: str,
        parameters: Mapping[str, Any],
    ) -> Self:
        """A new one; `secret` is 32 random hexadecimal digits. What else is in the token is for whoever reads CloudTrail."""
        source = f"{service}.amazonaws.com"
        told = {f"{name[:1].lower()}{name[1:]}": value for name, value in parameters.items()}
        return cls(f"{action}.{task_id}.{int(now.timestamp())}.{secret}", account, source, api, _digest(source, told))

    @classmethod
    def claimed_by(cls, record: Record) -> Self | None:
        """The intention whose call a record may be of, as far as it says itself; None where it shows no token or came too late for it."""
        found = _TOKEN.search(record.text("userAgent") or "")
        account, at = record.account, record.time
        if found is None or account is None or at is None:
            return None
        made_at = datetime.fromtimestamp(int(found[2]), UTC)
        if not made_at - CLOCKS_APART <= at <= made_at + INTENDED_FOR:
            return None
        return cls(found[1], account, record.source, record.name, _digest(record.source, record.get("requestParameters")))

    @property
    def agent(self) -> str:
        """What stands in the user agent."""
        return f"trailmend-call/{self.token}"

    @property
    def action(self) -> str:
        """The name of the action that the call is part of."""
        return self.token.split(".")[0]

    @property
    def task_id(self) -> str:
        """The id of the task that it is for."""
        return self.token.split(".")[1]

    @property
    def key(self) -> str:
        """What is settled before the call."""
        return f"call intended|{self.account}|{self.source}|{self.api}|{self.named}|{self.token}"

    @property
    def spent(self) -> str:
        """What is settled once the call's request id is known: no other record is taken for it from then on."""
        return f"call spent|{self.token}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """A call that AWS answered and that CloudTrail should tell of. `missed`: it did not until `due_at`, and that has been told."""

    request_id: str
    task_id: str
    action: str
    account: str
    api: str
    due_at: datetime
    missed: bool = False

    @property
    def key(self) -> str:
        """What is settled once it is expected, and stays so for later copies of the record."""
        return call_key(self.request_id)


def call_key(request_id: str) -> str:
    """What is settled of a call whose request id is known."""
    return f"call|{request_id}"


def awaited_key(request_id: str) -> str:
    """What is settled, too, of a call that CloudTrail was asked to tell of, and stays so once it has."""
    return f"call awaited|{request_id}"


def is_marked(record: Record) -> bool:
    """Whether the record of a change says that we made its call. Anybody's may: it is only what makes it worth asking.

    Reads are left aside, and data events such as our own in the state's table: the executor writes neither down.
    """
    event = record.event
    agent = event.get("userAgent")
    if not (isinstance(agent, str) and MARK in agent) and not _sessions_marks(event):
        return False
    return event.get("readOnly") is not True and event.get("eventCategory") != "Data"


def marks_of(record: Record) -> tuple[str, ...]:
    """Those of `user_agent`, `session_name` and `source_identity` that a record bears."""
    agent = record.event.get("userAgent")
    return (("user_agent",) if isinstance(agent, str) and MARK in agent else ()) + _sessions_marks(record.event)


def _digest(source: str, parameters: object) -> str:
    if source != "iam.amazonaws.com":
        return ""
    told = parameters if isinstance(parameters, Mapping) else {}
    named = {name: value for name in NAMED if isinstance(value := told.get(name), str)}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def _sessions_marks(event: Mapping[str, Any]) -> tuple[str, ...]:
    identity = event.get("userIdentity")
    if not isinstance(identity, dict) or identity.get("type") != "AssumedRole":
        return ()
    arn, context = identity.get("arn"), identity.get("sessionContext")
    named = isinstance(arn, str) and arn.endswith(_SESSION)
    sourced = isinstance(context, dict) and context.get("sourceIdentity") == MARK
    return (("session_name",) if named else ()) + (("source_identity",) if sourced else ())
