"""Each CloudTrail rule of SigmaHQ finds what it is for, and not what is nearly that.

The events are in `sigmahq_samples.yml`, beside the rule's id: what CloudTrail writes, by AWS's documentation and recorded calls, or marked
as formal. `never` tells which rules CloudTrail cannot fulfil as they are written, `limits` which it can but in part; both name their
source. On real records the rules are held against conditions written by hand.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.detect.sigmahq_samples import Event, Samples, differences, read
from worker.detect import library
from worker.detect.rulebook import Rulebook
from worker.ingest import trail
from worker.ingest.trail import Bounds
from worker.model import Origin, Record

ORIGIN = Origin(path="samples.json.gz")
BOUNDS = Bounds(inflated_bytes=100_000_000, record_bytes=262_144)
NEAR = 3
"""The most places in which a miss may differ from a hit."""

ALL = tuple(read())
by_title = pytest.mark.parametrize("samples", ALL, ids=lambda samples: samples.title)


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "sigma" / "sigmahq"


@pytest.fixture(scope="module")
def book(folder: Path) -> Rulebook:
    return library.load([folder], shipped=False)


@pytest.fixture(scope="module")
def alone(book: Rulebook) -> dict[str, Rulebook]:
    """Each rule in a book of its own, so that a record is built for no other rule's sake."""
    return {rule.rule.id: library.load([Path(rule.path)], shipped=False) for rule in book.rules}


def test_all_57_rules_load(folder: Path, book: Rulebook):
    """Every file of the folder is one rule, unmodified, and none has a fault."""
    assert len(list(folder.glob("*.yml"))) == 57
    assert len(book.rules) == 57
    assert not book.silent


def test_the_samples_are_of_these_rules_and_no_other(book: Rulebook):
    """A rule that comes, goes or is renamed is noticed."""
    assert len({samples.id for samples in ALL}) == len(ALL)
    assert {samples.id: samples.title for samples in ALL} == {rule.rule.id: rule.rule.title for rule in book.rules}


def test_every_event_is_what_json_can_hold():
    """YAML turned no `No` into false and no time into a date: each event is the same after it was written and read as JSON."""
    for samples in ALL:
        for event in (*samples.matching, *(event for _, _, event in samples.misses)):
            assert json.loads(json.dumps(event)) == event
            assert {type(event[name]) for name in ("eventVersion", "eventTime", "eventName", "eventSource", "recipientAccountId")} == {str}
            assert event.get("additionalEventData", {}).get("MFAUsed", "No") in ("No", "Yes")


@by_title
def test_what_cannot_be_found_says_why(samples: Samples):
    """A rule has a real hit, or a reason with its source why it has none; a formal event stands only where a reason does."""
    assert bool(samples.hits) is not samples.never
    assert bool(samples.matching)
    assert bool(samples.misses)
    assert not samples.formal or samples.reasons
    assert all(len(reason.because) > 40 and reason.source.startswith("https://") for reason in samples.reasons)


def as_read(book: Rulebook, events: list[Event]) -> dict[str, list[Record]]:
    """The records that the reader builds for a book from an object of S3 and from messages of EventBridge, by how they came."""
    body = gzip.compress(json.dumps({"Records": events}).encode())
    came = {
        "S3": trail.read(body, ORIGIN, book.interest, BOUNDS),
        "EventBridge": trail.select([{"detail": event} for event in events], ORIGIN, book.interest, BOUNDS),
    }
    assert all(not one.faults and one.seen == len(events) for one in came.values())
    return {way: list(one.records) for way, one in came.items()}


def found(book: Rulebook, record: Record) -> set[str]:
    matches = book.match(record)
    assert not matches.errors
    return {finding.rule.id for finding in matches.findings}


@by_title
def test_every_hit_is_built_and_found(samples: Samples, book: Rulebook, alone: dict[str, Rulebook]):
    """An event that a rule is for is built for that rule's sake alone, however it comes, and found by it, alone or among all."""
    own = alone[samples.id]
    for way, records in as_read(own, list(samples.matching)).items():
        assert [record.event for record in records] == list(samples.matching), way
        for record in records:
            assert found(own, record) == {samples.id}, (way, record.event)
            assert samples.id in found(book, record)


@by_title
def test_no_miss_is_found(samples: Samples, book: Rulebook, alone: dict[str, Rulebook]):
    """What is nearly what a rule is for is not found by it: not through the reader, not among all rules, not when asked directly."""
    own = alone[samples.id]
    events = [event for _, _, event in samples.misses]
    for records in as_read(own, events).values():
        assert not [record.event for record in records if found(own, record)]
    for name, _, event in samples.misses:
        assert samples.id not in found(book, Record(event, ORIGIN)), name
        assert not own.rules[0].matches(event), name


@by_title
def test_every_miss_is_near(samples: Samples):
    """What is not found differs from what is found in one to three places only."""
    for name, of, event in samples.misses:
        assert 1 <= differences(samples.matching[of], event) <= NEAR, name


@pytest.mark.parametrize(
    ("left", "right", "places"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, 0),
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 3, "d": 3}}, 2),
        ({"b": {"c": 2, "d": 3}}, {"b": None}, 1),
        ({"b": {"c": 2, "d": 3}}, {"b": {"e": 4}}, 1),
        ({"b": [1, 2]}, {"b": [3, 4]}, 2),
        ({"a": None}, {}, 1),
    ],
)
def test_places_are_counted(left: Event, right: Event, places: int):
    """Nearness is counted both ways alike, and null is not the same as nothing."""
    top = {"x": 0}
    assert differences({**top, **left}, {**top, **right}) == differences({**top, **right}, {**top, **left}) == places


# That the samples try the whole rule.


def sigma(book: Rulebook, samples: Samples) -> dict[str, Any]:
    """The rule as its file has it."""
    path = next(rule.path for rule in book.rules if rule.rule.id == samples.id)
    return dict(yaml.safe_load(Path(path).read_text("utf-8")))


def items(detection: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The maps of a rule's searches, each with its search's name."""
    for name, search in detection.items():
        for one in search if isinstance(search, list) else [search]:
            if isinstance(one, dict):
                yield name, one


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def asked(detection: dict[str, Any], field: str) -> list[str]:
    """What a rule's selections list for a field, with whatever modifier."""
    return [
        value
        for name, one in items(detection)
        if not name.startswith("filter")
        for key, values in one.items()
        if key.split("|")[0] == field
        for value in listed(values)
    ]


@by_title
def test_every_name_that_a_rule_lists_is_shown(samples: Samples, book: Rulebook):
    """There is a hit, or a formal one, for each event name of a rule, so that no entry of a list goes untried."""
    shown = {event["eventName"] for event in samples.matching}
    assert all(any(one.startswith(name) for one in shown) for name in asked(sigma(book, samples)["detection"], "eventName"))


def elsewhere(samples: Samples, detection: dict[str, Any]) -> Iterator[Event]:
    """Each hit as a call of another service, and as one of another name, where the rule asks for that."""
    for field, other in (("eventSource", "example.amazonaws.com"), ("eventName", "DescribeExample")):
        if asked(detection, field):
            yield from ({**event, field: other} for event in samples.matching)


@by_title
def test_a_call_of_another_name_or_service_is_not_found(samples: Samples, book: Rulebook):
    """A rule that asks for a source or a name finds nothing of what is alike but for that."""
    for event in elsewhere(samples, sigma(book, samples)["detection"]):
        assert samples.id not in found(book, Record(event, ORIGIN)), event


def altered(detection: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A rule's searches with one item left out, or one value in place of which stands another."""
    for place, (_, one) in enumerate(items(detection)):
        for field, values in one.items():
            for number in range(len(listed(values))):
                copy = deepcopy(detection)
                item = [each for _, each in items(copy)][place]
                item[field] = [*listed(values)[:number], "otherwise", *listed(values)[number + 1 :]]
                yield copy
            if len(one) > 1:
                copy = deepcopy(detection)
                del [each for _, each in items(copy)][place][field]
                yield copy


@by_title
def test_every_item_of_a_rule_matters_to_its_samples(samples: Samples, book: Rulebook):
    """Were any item of a rule left out, or any of its values another, some sample would get another answer: none is there for show."""
    rule = sigma(book, samples)
    misses = [*(event for _, _, event in samples.misses), *elsewhere(samples, rule["detection"])]
    for detection in altered(rule["detection"]):
        other = library.build([("rule.yml", yaml.safe_dump({**rule, "detection": detection}))]).rules[0]
        assert not all(map(other.matches, samples.matching)) or any(map(other.matches, misses)), detection


# Real records.


def calls(source: str, *names: str) -> Callable[[Event], bool]:
    return lambda event: event["eventSource"] == f"{source}.amazonaws.com" and event["eventName"] in names


def worked(event: Event) -> bool:
    return "errorCode" not in event


def who(event: Event) -> Event:
    return event.get("userIdentity") or {}


def issuer(event: Event) -> Event:
    return (who(event).get("sessionContext") or {}).get("sessionIssuer") or {}


REAL: dict[str, tuple[int, Callable[[Event], bool]]] = {
    "AWS Bucket Deleted": (5, lambda event: event["eventName"] == "DeleteBucket" and worked(event)),
    "AWS CloudTrail Important Change": (6, calls("cloudtrail", "StopLogging", "UpdateTrail", "DeleteTrail")),
    "AWS IAM Backdoor Users Keys": (2, calls("iam", "CreateAccessKey")),
    "AWS Snapshot Backup Exfiltration": (2, calls("ec2", "ModifySnapshotAttribute")),
    "AWS STS AssumeRole Misuse": (856, lambda event: who(event).get("type") == "AssumedRole" and issuer(event).get("type") == "Role"),
    "AWS Successful Console Login Without MFA": (
        1,
        lambda event: (
            event["eventName"] == "ConsoleLogin"
            and event["additionalEventData"]["MFAUsed"] == "No"
            and event["responseElements"]["ConsoleLogin"] == "Success"
        ),
    ),
    "AWS VPC Flow Logs Deleted": (1, lambda event: event["eventName"] == "DeleteFlowLogs" and worked(event)),
    "Ingress/Egress Security Group Modification": (
        6,
        lambda event: (
            event["eventSource"] == "ec2.amazonaws.com"
            and event["eventName"].startswith(("Authorize", "Revoke"))
            and event["eventName"].endswith(("SecurityGroupIngress", "SecurityGroupEgress"))
        ),
    ),
    "New Network Route Added": (6, calls("ec2", "CreateRoute")),
    "Potential Bucket Enumeration on AWS": (3, lambda event: calls("s3", "ListBuckets")(event) and who(event).get("type") != "AssumedRole"),
    "Potential Malicious Usage of CloudTrail System Manager": (6, lambda event: calls("ssm", "SendCommand")(event) and worked(event)),
}
"""What is to be found in the real records: how often, and a condition for it written by hand. Every other rule finds nothing there."""


def real_objects(shared_data: Path) -> Iterator[tuple[bytes, list[Event]]]:
    """The bytes of each real object or file, and its records."""
    for path in sorted((shared_data / "cloudtrail").rglob("*.json.gz")):
        yield path.read_bytes(), json.loads(gzip.decompress(path.read_bytes()))["Records"]
    for path in sorted((shared_data / "cloudtrail").rglob("*.jsonl")):
        yield path.read_bytes(), [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_real_records_are_found_as_counted_by_hand(shared_data: Path, book: Rulebook):
    """In 3,844 real records each rule finds exactly those that a condition written by hand picks; all but these eleven find none."""
    seen = 0
    counted: Counter[str] = Counter()
    for body, events in real_objects(shared_data):
        read = trail.read(body, ORIGIN, book.interest, BOUNDS)
        seen += read.seen
        by_hand = [(title, event) for event in events for title, (_, holds) in sorted(REAL.items()) if holds(event)]
        by_rule = [
            (title, record.event) for record in read.records for title in sorted(find.rule.title for find in book.match(record).findings)
        ]
        assert by_rule == by_hand
        counted.update(title for title, _ in by_rule)
    assert seen == 3_844
    assert counted == {title: count for title, (count, _) in REAL.items()}
