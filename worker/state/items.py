"""What each item of the DynamoDB table looks like: pure, from a value to its item and back.

| what          | pk                         | sk                           | other attributes                                          |
|---------------|----------------------------|------------------------------|-----------------------------------------------------------|
| claim         | `claim#` and the key       | `claim`                      | owner, lease_until, settled_at, expires_at                |
| profile event | `profile#` and an id       | the event's key              | account, profile, time, kind, detail, expires_at          |
| sighting      | `window#` and the window   | the time, `#` and the key    | keep_until, packed (zlib), aspect, expires_at             |
| closing       | `closing`                  | the closing's key            | correlation, window, start, due_at                        |
| delivery      | `outbox`                   | ids of the sink and the key, | sink, kind, item, id, group, what, posted_at, due_at,     |
|               |                            | the time due between them    | attempts, body (zlib)                                     |
| approval      | `approval`                 | the task's id                | asked_at, asking (zlib), decisions (a map by approver)    |
| call          | `expected`                 | its request id               | task_id, action, account, api, due_at, missed, expires_at |
| journal line  | `journal`                  | number, 12 digits            | task_id, outcome, hash, previous, line (zlib)             |

Times are in microseconds since 1970 (`canonical.py`), but for `expires_at`, which is TTL's and in seconds. In a sort key a time is 18 digits from the year 1
on, so that DynamoDB's order of bytes is the order of time. A profile's name comes from whoever called AWS, so a fixed-length id of it
stands in the key. A journal line is compressed because a fleet's plan can pass DynamoDB's 400 KB an item.

Journal, closings, deliveries and approvals have no `expires_at`: nothing ever takes a line out, a closing is forgotten once it has been judged, a delivery
once it was taken or given up, and an approval once it was carried out or has ended otherwise. TTL deletes days
late, and what it is to delete may still be read: harmless, because a window is read by its time.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.model import Approval, Closing, Decision, Delivery, Expectation, JournalEntry, Outgoing, ProfileEvent, Sighting, stable_id
from worker.state import canonical

Item = dict[str, Any]

CLAIMS_KEPT = timedelta(days=90)
"""Longer than SQS (14 days) and then a dead-letter queue (14 more) can hold a message that would ask again."""
EVENTS_KEPT = timedelta(days=5 * 365)
"""A profile may live for years before somebody deletes it, and its first event may be all that tells its path and tags."""

APPROVAL, CLOSING, EXPECTED, JOURNAL, OUTBOX = "approval", "closing", "expected", "journal", "outbox"

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
_SECOND = 1_000_000
_FIRST_YEAR = datetime(1, 1, 1, tzinfo=UTC)


def text(value: str) -> Item:
    """A text as an attribute's value."""
    return {"S": value}


def time(moment: datetime) -> Item:
    """A moment as an attribute's value."""
    return {"N": str(canonical.micros(moment))}


def expiry(moment: datetime) -> Item:
    """The value of `expires_at` for what is kept until a moment at least."""
    return {"N": str(-(-canonical.micros(moment) // _SECOND))}


def key(partition: str, sort: str) -> Item:
    """The key of an item."""
    return {"pk": text(partition), "sk": text(sort)}


def _moment(item: Item, name: str) -> datetime:
    return canonical.moment(int(item[name]["N"]))


# Claims.


def claim_key(key_of_claim: str) -> Item:
    """The key of a claim's item."""
    return key(f"claim#{key_of_claim}", "claim")


def settled_claim(key_of_claim: str, owner: str, now: datetime) -> Item:
    """A claim whose work has been done."""
    return {**claim_key(key_of_claim), "owner": text(owner), "settled_at": time(now), "expires_at": expiry(now + CLAIMS_KEPT)}


# Profile memory.


def profile_partition(account: str, profile: str) -> str:
    """Where the events of a profile stand."""
    return f"profile#{stable_id('profile', account, profile)}"


def profile_event(event: ProfileEvent) -> Item:
    """A profile event."""
    seconds = canonical.micros(event.time) // _SECOND + int(EVENTS_KEPT.total_seconds())
    return {
        **key(profile_partition(event.account, event.profile), event.key),
        "account": text(event.account),
        "profile": text(event.profile),
        "time": time(event.time),
        "kind": text(event.kind),
        "detail": text(canonical.dump(event.detail)),
        "expires_at": {"N": str(seconds)},  # not by `expiry`: the event's time is somebody else's, and may be in the year 9999
    }


def to_profile_event(item: Item) -> ProfileEvent:
    """What `profile_event` was made of."""
    detail = canonical.load(item["detail"]["S"])
    return ProfileEvent(item["account"]["S"], item["profile"]["S"], _moment(item, "time"), item["sk"]["S"], item["kind"]["S"], detail)


# Windows.


def window_partition(window: str) -> str:
    """Where the sightings of a window stand."""
    return f"window#{window}"


def sortable(moment: datetime) -> str:
    """A moment as the sort key of a sighting begins: 18 digits, in the order of time from the year 1 to 9999."""
    return f"{canonical.micros(moment) - canonical.micros(_FIRST_YEAR):018d}"


def past(moment: datetime) -> str:
    """A sort key behind those of all sightings of a moment and before those of the next: `$` is the byte after `#`."""
    return f"{sortable(moment)}$"


def within(window: str, since: datetime, until: datetime) -> Item:
    """The values by which the sightings of a window are asked for, from one time to another, both included."""
    return {":pk": text(window_partition(window)), ":since": text(sortable(since)), ":until": text(past(until))}


def sighting(seen: Sighting, keep_until: datetime) -> Item:
    """A sighting, to be kept until a time at least."""
    return {
        **key(window_partition(seen.window), f"{sortable(seen.time)}#{seen.key}"),
        "keep_until": time(keep_until),
        "packed": {"B": canonical.pack(seen)},
        **({} if (aspect := canonical.aspect(seen)) is None else {"aspect": text(aspect)}),
        "expires_at": expiry(keep_until),
    }


def to_sighting(item: Item, window: str) -> Sighting:
    """What `sighting` was made of; of a huge record without some members."""
    return canonical.unpack(item["packed"]["B"], window, _seen_at(item))


def to_aspect(item: Item) -> tuple[str | None, int, datetime]:
    """Of a sighting's sort key and aspect, what a census takes."""
    return item["aspect"]["S"] if "aspect" in item else None, 1, _seen_at(item)


def _seen_at(item: Item) -> datetime:
    return canonical.moment(int(item["sk"]["S"].partition("#")[0]) + canonical.micros(_FIRST_YEAR))


def closing(later: Closing) -> Item:
    """A closing."""
    return {
        **key(CLOSING, later.key),
        "correlation": text(later.correlation),
        "window": text(later.window),
        "start": time(later.start),
        "due_at": time(later.due_at),
    }


def to_closing(item: Item) -> Closing:
    """What `closing` was made of."""
    return Closing(item["correlation"]["S"], item["window"]["S"], _moment(item, "start"), _moment(item, "due_at"))


# The outbox.


def due_by(sink: str, now: datetime) -> Item:
    """The values by which the deliveries of a sink are asked for that are due, in the order in which they are."""
    return {":pk": text(OUTBOX), ":since": text(f"{stable_id(sink)}#"), ":until": text(f"{stable_id(sink)}#{past(now)}")}


def delivery_key(waiting: Delivery) -> Item:
    """The key of a delivery's item, which changes when it is put off."""
    return key(OUTBOX, f"{stable_id(waiting.sink)}#{sortable(waiting.due_at)}#{stable_id(waiting.key)}")


def delivery(waiting: Delivery) -> Item:
    """A delivery that waits for its sink."""
    outgoing = waiting.outgoing
    return {
        **delivery_key(waiting),
        "sink": text(waiting.sink),
        "kind": text(waiting.kind),
        "item": text(waiting.item),
        "id": text(outgoing.id),
        "group": text(outgoing.group),
        "what": text(outgoing.what),
        "posted_at": time(waiting.posted_at),
        "due_at": time(waiting.due_at),
        "attempts": {"N": str(waiting.attempts)},
        "body": {"B": zlib.compress(outgoing.body)},
    }


def to_delivery(item: Item) -> Delivery:
    """What `delivery` was made of."""
    told = {name: item[name]["S"] for name in ("sink", "kind", "item", "id", "group", "what")}
    outgoing = Outgoing(told["id"], told["group"], zlib.decompress(item["body"]["B"]), told["what"])
    times = _moment(item, "posted_at"), _moment(item, "due_at")
    return Delivery(told["sink"], told["kind"], told["item"], outgoing, *times, int(item["attempts"]["N"]))


def to_backlog(item: Item) -> tuple[str, str, datetime]:
    """Of a delivery, what a backlog takes: its sink, the sink's kind, and when it was posted."""
    return item["sink"]["S"], item["kind"]["S"], _moment(item, "posted_at")


# Approvals.


def approval_key(task_id: str) -> Item:
    """The key of an approval's item."""
    return key(APPROVAL, task_id)


def approval(asked: Approval) -> Item:
    """A task that nobody has decided about yet."""
    return {
        **approval_key(asked.id),
        "asked_at": time(asked.asked_at),
        "asking": {"B": zlib.compress(canonical.asking(asked).encode("ascii"))},
        "decisions": {"M": {}},
    }


def decision(decided: Decision) -> Item:
    """One person's answer, as it stands in the map."""
    told = {"answer": text(decided.answer.value), "why": text(decided.why), "at": time(decided.at)}
    return {"M": told}


def to_approval(item: Item) -> Approval:
    """What `approval` was made of, with what was decided since."""
    decided = ((approver, told["M"]) for approver, told in item["decisions"]["M"].items())
    decisions = [canonical.decision(approver, told["answer"]["S"], told["why"]["S"], int(told["at"]["N"])) for approver, told in decided]
    return canonical.to_approval(zlib.decompress(item["asking"]["B"]).decode("ascii"), decisions)


# Calls that CloudTrail is to tell of.


def expectation(call: Expectation) -> Item:
    """A call that is expected."""
    return {
        **key(EXPECTED, call.request_id),
        "task_id": text(call.task_id),
        "action": text(call.action),
        "account": text(call.account),
        "api": text(call.api),
        "due_at": time(call.due_at),
        "missed": {"BOOL": call.missed},
        "expires_at": expiry(call.due_at + CLAIMS_KEPT),
    }


def to_expectation(item: Item) -> Expectation:
    """What `expectation` was made of."""
    request_id, task_id, action, account, api = (item[name]["S"] for name in ("sk", "task_id", "action", "account", "api"))
    return Expectation(request_id, task_id, action, account, api, _moment(item, "due_at"), item["missed"]["BOOL"])


# The journal.


def journal_number(number: int) -> str:
    """A line's number as the sort key has it."""
    return f"{number:012d}"


def journal_line(number: int, entry: JournalEntry, line: str, previous: str, mark: str) -> Item:
    """A line of the journal; `mark` is its hash and `previous` that of the line before."""
    return {
        **key(JOURNAL, journal_number(number)),
        "task_id": text(entry.task_id),
        "outcome": text(entry.outcome),
        "hash": text(mark),
        "previous": text(previous),
        "line": {"B": zlib.compress(line.encode("ascii"))},
    }


def to_journal_line(item: Item) -> tuple[JournalEntry, str, str]:
    """The entry, its hash and that of the line before."""
    return canonical.entry(zlib.decompress(item["line"]["B"]).decode("ascii")), item["hash"]["S"], item["previous"]["S"]
