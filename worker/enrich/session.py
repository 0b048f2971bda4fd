"""The fact `session`: how the caller's role session was opened, and by whom; where a role assumed a role, back to whoever began.

What a session is called and who vouches for it stands in its records. Who assumed the role does not: that is in the record of the
AssumeRole call that handed out the session's key. It is looked for among the finding's own events first, then in CloudTrail's event
history, which answers for the access key a call handed out as for any other resource of it: by LookupEvents, in the region of the event and
in our own, around the time the session was opened. Each answer names the caller's own key, and so on, `MOST_LINKS` back. LookupEvents is
limited to two questions a second in an account and region, and the history runs up to a quarter of an hour behind: what was not found is
said to be so.

A record of AssumeRole holds the session token that was handed out. It is dropped as the answer is read, before anything is kept of it.
Sources: https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html and
https://docs.aws.amazon.com/IAM/latest/UserGuide/cloudtrail-integration.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from worker.enrich.fact import ACCOUNT, Answer, Call, Case, FactKind, missing, stamp
from worker.enrich.identity import identify, moment
from worker.enrich.instances import REGIONS_CALLS, regions_of
from worker.enrich.role import SERVICE_LINKED
from worker.model import Actor, Fact, FactSource, Finding, Origin, Record
from worker.settings import Settings

LIFETIME_SECONDS = 60.0
"""What was not found may be there a minute later."""
MOST_LINKS = 5
MOST_LOOKUPS = 8
"""Questions about one session: several links, each in two regions at worst."""
MOST_SESSIONS = 30
"""Sessions of an account that are looked up within a minute: with two questions a second, there is no more time than that."""
AROUND_SECONDS = 300
MOST_EVENTS = 50

OPENING = frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"})
KEY = re.compile(r"ASIA[A-Z0-9]{12,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session to be explained: the key it acts with, whose account it is of, and when it was opened."""

    key: str | None
    account: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class _Link:
    """Who opened a session, as the record of it tells. `before` is that one's own session of a role, `vouched` who is behind that."""

    told: Mapping[str, Any]
    account: str | None
    before: _Opened | None = None
    vouched: Mapping[str, Any] | None = None


async def _learn(case: Case) -> Fact:
    finding = case.finding
    record, actor = finding.record, finding.actor
    at = record.time or case.clock()
    identity = identify(record, actor)
    value = {"role": actor.name, **{name: identity[name] for name in ("session", "source_identity", "opened_at", "open_seconds")}}
    opener = _vouched(identity, "event")
    if opener is not None:
        return SESSION.known({**value, "chain": [opener], "complete": True, "unknown": {}}, at, source=FactSource.EVENT)
    trail = _Trail(case)
    chain, why = await trail.back_from(_Opened(actor.access_key_id, actor.account, moment(value["opened_at"])))
    unknown = {} if why is None else {"chain": why}
    value |= {"chain": chain, "complete": why is None, "unknown": unknown}
    if trail.answers:
        return SESSION.told(value, trail.answers, missing(unknown))
    return SESSION.known(value, at, source=FactSource.EVENT, reason=missing(unknown))


def _vouched(identity: Mapping[str, Any], source: str) -> Mapping[str, Any] | None:
    """Who opened it, where AWS says so in every record of the session."""
    opener = {"ec2-instance": "AWSService", "identity-center-user": "IdentityCenterUser", "web-identity-user": "WebIdentityUser"}
    kind = opener.get(identity["kind"])
    if kind is None:
        return None
    name = identity["person"] if kind != "AWSService" else "ec2.amazonaws.com"
    nothing = dict.fromkeys(("arn", "account", "session", "access_key_id"))
    return {"type": kind, "name": name, **nothing, "at": identity["opened_at"], "source": source}


class _Trail:
    """The way back from a session to whoever began, and the answers it rests on."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._left = MOST_LOOKUPS
        self.answers: list[Answer] = []

    async def back_from(self, session: _Opened) -> tuple[list[Mapping[str, Any]], str | None]:
        """The links, nearest first, and why they do not go back to the beginning; None if they do."""
        chain: list[Mapping[str, Any]] = []
        now: _Opened | None = session
        while now is not None:
            if len(chain) == MOST_LINKS:
                return chain, f"more than {MOST_LINKS} roles assumed one another"
            link, why = await self._opener(now)
            if link is None:
                return chain, why
            chain.append(link.told)
            if why is not None:
                return chain, why
            if link.vouched is not None:
                return [*chain, link.vouched], None
            now = link.before
        return chain, None

    async def _opener(self, session: _Opened) -> tuple[_Link | None, str | None]:
        if session.key is None or not KEY.fullmatch(session.key):
            return None, "the record names no key of a session"
        for sighting in () if self._case.finding.occurrence is None else self._case.finding.occurrence.sightings:
            if (call := _opening(sighting.record.event)) is not None and call["key"] == session.key:
                return _link(call, "event"), None
        if session.account is None or not ACCOUNT.fullmatch(session.account) or session.at is None:
            return None, "the record names no account, or not when the session was opened"
        now = self._case.clock()
        if self._case.crowd.joined(f"sessions {session.account}", session.key, now, 60.0) > MOST_SESSIONS:
            return None, f"more than {MOST_SESSIONS} sessions of account {session.account} were looked up within a minute"
        link, why = await self._looked_up(session, session.account)
        if link is not None and link.told["type"] == "AWSAccount" and ACCOUNT.fullmatch(link.account or ""):
            # The role's account is told of a caller of another account only which account that is. Its own has the rest.
            nearer, why = await self._looked_up(session, str(link.account))
            return (nearer, None) if nearer is not None else (link, f"who in account {link.account} it was: {why}")
        return link, why

    async def _looked_up(self, session: _Opened, account: str) -> tuple[_Link | None, str | None]:
        why = "no record of the call that opened it was found; CloudTrail's event history may be a quarter of an hour behind"
        for region in await self._regions(account):
            if self._left == 0:
                return None, f"not found with {MOST_LOOKUPS} questions"
            self._left -= 1
            answer = await self._case.ask(_lookup(session, account, region))
            self.answers.append(answer)
            if answer.fault is not None:
                return None, answer.fault.text
            for call in answer.value["Events"]:
                if call["key"] == session.key:
                    return _link(call, "cache" if answer.cached else "live"), None
        return None, why

    async def _regions(self, account: str) -> Sequence[str | None]:
        """STS records a call where it was made: often where the session acts, or in the one region of its global endpoint.

        Records are untrusted, and a region that is looked into becomes a client that stays open: only a region of the account will do.
        """
        told = self._case.finding.record.region
        known = await regions_of(self._case, account) if told is not None else None
        return [told, None] if isinstance(known, list) and told in known else [None]


def _lookup(session: _Opened, account: str, region: str | None) -> Call:
    opened = int(session.at.timestamp()) if session.at is not None else 0
    params = {
        "LookupAttributes": [{"AttributeKey": "ResourceName", "AttributeValue": session.key}],
        "StartTime": opened - AROUND_SECONDS,
        "EndTime": opened + AROUND_SECONDS,
        "MaxResults": MOST_EVENTS,
    }
    return Call(account, "cloudtrail", "lookup_events", LIFETIME_SECONDS, params, region, standing=True, read=_read)


def _read(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The calls that opened a session, without what they handed out."""
    return {"Events": [call for event in answer.get("Events", ()) if (call := _opening(_parsed(event))) is not None]}


def _parsed(event: Mapping[str, Any]) -> Any:
    try:
        return orjson.loads(event.get("CloudTrailEvent") or "null")
    except orjson.JSONDecodeError:
        return None


def _opening(event: Any) -> Mapping[str, Any] | None:
    """As much of a record as says who opened the session of which key; None for any other record."""
    if not isinstance(event, Mapping) or event.get("eventName") not in OPENING or event.get("eventSource") != "sts.amazonaws.com":
        return None
    record = Record(event, Origin(path=""))
    key = record.text("responseElements", "credentials", "accessKeyId")
    kept = {name: event.get(name) for name in ("eventTime", "userIdentity")}
    return None if key is None else {**kept, "key": key}


def _link(call: Mapping[str, Any], source: str) -> _Link:
    record = Record(call, Origin(path=""))
    who, context = "userIdentity", ("userIdentity", "sessionContext")
    kind, arn, account = record.text(who, "type") or "Unknown", record.text(who, "arn"), record.text(who, "accountId")
    assumed = kind == "AssumedRole"
    role, issuer_arn = (record.text(*context, "sessionIssuer", name) for name in ("userName", "arn"))
    name = role if assumed else record.text(who, "userName") or record.text(who, "invokedBy")
    session = (arn or "").rpartition("/")[2] or None if assumed else None
    key = record.text(who, "accessKeyId")
    told = {"type": kind, "arn": arn, "name": name, "account": account, "session": session, "access_key_id": key}
    told |= {"at": stamp(record.time), "source": source}
    if not assumed:
        return _Link(told, account)
    identity = identify(record, Actor(kind, arn, name, account, session, issuer_arn, record.text(*context, "sourceIdentity"), key))
    return _Link(told, account, _Opened(key, account, moment(identity["opened_at"])), _vouched(identity, source))


def _applies(finding: Finding, _: Settings) -> bool:
    return finding.actor.type == "AssumedRole" and not SERVICE_LINKED.fits(finding.actor.issuer_arn)


SESSION = FactKind("session", FactSource.LIVE, _applies, _learn, ("cloudtrail:LookupEvents", *REGIONS_CALLS))
