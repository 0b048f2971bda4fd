"""Our own calls to AWS: what stands in each of them, and what is written down of it, so that its CloudTrail record is known for ours. Pure.

A session name, a source identity and a user agent are claimed by whoever makes a call, so they only say which records are worth a question (`is_marked`).
A record is ours where its request id, which AWS gives, was written down after the call. A call that was made and never answered (its process died, the
network failed) has no known request id: its user agent holds a token that nobody else knew before the call, and the first record that shows the token, of
the call that was intended, is taken for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from worker.model.record import Record

MARK = "trailmend"
"""Our role session name and source identity, and a word in the user agent of every call."""
INTENDED_FOR = timedelta(minutes=5)
"""A call with all its tries (4 times 35 s) is over by then; what shows a token later is somebody else's."""
CLOCKS_APART = timedelta(minutes=1)

_TOKEN = re.compile(r"trailmend-call/([a-z-]{1,64}\.[A-Za-z0-9-]{1,64}\.([0-9]{10,11})\.[0-9a-f]{32})(?![0-9a-f])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Intention:
    """A call that is about to be made: the API as AWS spells it, in an account. `token` stands in its user agent."""

    token: str
    account: str
    source: str
    api: str

    @classmethod
    def of(cls, action: str, task_id: str, secret: str, now: datetime, account: str, service: str, api: str) -> Self:
        """A new one; `secret` is 32 random hexadecimal digits. What else is in the token is for whoever reads CloudTrail."""
        return cls(f"{action}.{task_id}.{int(now.timestamp())}.{secret}", account, f"{service}.amazonaws.com", api)

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
        return cls(found[1], account, record.source, record.name)

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
        return f"call intended|{self.account}|{self.source}|{self.api}|{self.token}"

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


def is_marked(record: Record) -> bool:
    """Whether the record of a change says that we made its call. Anybody's may: it is only what makes it worth asking.

    Reads are left aside, and data events such as our own in the state's table: the executor writes neither down.
    """
    if record.event.get("readOnly") is True or record.event.get("eventCategory") == "Data":
        return False
    return bool(marks_of(record))


def marks_of(record: Record) -> tuple[str, ...]:
    """Those of `user_agent`, `session_name` and `source_identity` by which a record says so."""
    marks = []
    agent: Any = record.event.get("userAgent")
    if isinstance(agent, str) and MARK in agent:
        marks.append("user_agent")
    identity: Any = record.event.get("userIdentity")
    if isinstance(identity, dict) and identity.get("type") == "AssumedRole":
        arn = identity.get("arn")
        if isinstance(arn, str) and arn.endswith(f"/{MARK}"):
            marks.append("session_name")
        if record.get("userIdentity", "sessionContext", "sourceIdentity") == MARK:
            marks.append("source_identity")
    return tuple(marks)
