"""Findings and tasks as JSON are what their shipped schemas say, for any record."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.fakes import NOON
from tests.occurrences import DELETED, STORM, deletion, finding, occurred, sighting, together
from worker.detect.library import load
from worker.dispatch import wire
from worker.dispatch.plan import PLANNERS, plan
from worker.model import EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Origin, Record, Rule
from worker.observe.ocsf import as_ocsf
from worker.signature import is_signed

FINDING = Draft202012Validator(wire.schema("finding"), format_checker=Draft202012Validator.FORMAT_CHECKER)
TASK = Draft202012Validator(wire.schema("task"), format_checker=Draft202012Validator.FORMAT_CHECKER)
RULES = load([])
OBJECT = Origin(bucket="logs", key="a/b.json.gz")
HITS = [(rule, event) for rule in RULES.rules for sample in rule.samples if sample.match for event in sample.events]


def enriched(event, origin=OBJECT):
    for one in RULES.match(Record(event, origin)).findings:
        fact = Fact("authorised", FactStatus.KNOWN, {"authorised": False, "because": "x"}, NOON, FactSource.SETTINGS)
        yield EnrichedFinding(one, {"authorised": fact})


@pytest.mark.parametrize("origin", [Origin(bucket="logs", key="k"), Origin(path="x.json"), Origin(message="m-1")])
def test_findings_and_tasks_of_every_shipped_rule_hold_their_schemas(origin):
    """What the rules' own samples give is valid, wherever the record was read."""
    seen = 0
    for _, event in HITS:
        for found in enriched(event, origin):
            planned = plan(found)
            FINDING.validate(orjson.loads(orjson.dumps(wire.finding_as_dict(found, planned))))
            for task in planned.tasks:
                TASK.validate(orjson.loads(orjson.dumps(wire.task_as_dict(task, NOON))))
                seen += 1
    assert seen >= len(PLANNERS)


def test_a_signed_task_holds_its_schema_and_its_signature():
    """What the worker sends is what the executor checks, for every sample; without a key it is as it was."""
    keys = (b"the-first-secret-of-24-bytes", b"the-other-secret-of-24-bytes")
    for _, event in HITS:
        for task in (one for found in enriched(event) for one in plan(found).tasks):
            sent = orjson.loads(wire.task_body(task, NOON, keys))
            TASK.validate(sent)
            assert is_signed(sent, keys[:1])
            del sent["signature"]
            assert sent == orjson.loads(wire.task_body(task, NOON, ())) == orjson.loads(orjson.dumps(wire.task_as_dict(task, NOON)))


def on_the_wire(finding: Finding, **facts: object) -> dict[str, Any]:
    """A finding as its consumer reads it, once the schema has accepted it."""
    known = {name: Fact(name, FactStatus.KNOWN, value, NOON, FactSource.EVENT) for name, value in facts.items()}
    found = EnrichedFinding(finding, known)
    read: dict[str, Any] = orjson.loads(orjson.dumps(wire.finding_as_dict(found, plan(found))))
    FINDING.validate(read)
    return read


def test_a_finding_carries_the_level_that_its_circumstances_leave():
    """`level` is what on-call goes by, `rule.level` stays what the rule says, and `circumstances` tell why they differ."""
    rule = Rule("r", "A rule", Level.HIGH, level_when={"authorised": Level.LOW})
    calm = on_the_wire(finding(deletion(1), rule), authorised={"authorised": True, "because": "x"})
    assert (calm["level"], calm["rule"]["level"], calm["circumstances"]) == ("low", "high", ["authorised"])
    alarm = on_the_wire(finding(deletion(1), rule), authorised={"authorised": False, "because": "x"})
    assert (alarm["level"], alarm["rule"]["level"], alarm["circumstances"]) == ("high", "high", [])


def test_what_one_record_made_has_no_correlation():
    """The member is there and null, so that nobody has to ask whether it may be missing."""
    assert on_the_wire(finding(deletion(1)))["correlation"] is None


def test_a_correlation_names_its_group_its_span_and_its_events():
    """Each event with its time, id, caller, account and object, the last one last, which the rest of the finding is about."""
    records = [deletion(1), deletion(2, second=90), deletion(3, second=190)]
    read = on_the_wire(together(records, group={"userIdentity.arn": "arn:mallory"}))
    found = read["correlation"]
    assert (found["group"], found["count"]) == ({"userIdentity.arn": "arn:mallory"}, 3)
    assert (found["since"], found["until"]) == ("2026-11-23T12:00:01Z", "2026-11-23T12:03:10Z")
    assert [event["id"] for event in found["events"]] == ["event-1", "event-2", "event-3"]
    assert found["events"][0] == {
        "rules": [DELETED],
        "id": "event-1",
        "name": "DeleteInstanceProfile",
        "source": "iam.amazonaws.com",
        "time": "2026-11-23T12:00:01Z",
        "account": "111122223333",
        "error_code": None,
        "actor": "arn:aws:iam::111122223333:user/mallory",
        "object": {"bucket": "logs", "key": "log-1.json.gz"},
    }
    assert (read["rule"]["id"], read["event"]["id"]) == (STORM.id, "event-3")
    assert read["id"] == together(records).id


def test_an_event_that_several_rules_saw_is_one_event():
    """It is counted once, names all of them, and stands where it completed the correlation."""
    first, second = deletion(1), deletion(2, second=1)
    found = on_the_wire(occurred([sighting(second, "a"), sighting(first, "a"), sighting(second, "b")]))["correlation"]
    assert found["count"] == 2
    assert [(event["id"], event["rules"]) for event in found["events"]] == [("event-1", ["a"]), ("event-2", ["a", "b"])]


def test_what_an_inner_correlation_found_is_one_event():
    """Two occurrences that end with one record are still two."""
    record = deletion(1)
    assert on_the_wire(occurred([sighting(record, "inner", "one"), sighting(record, "inner", "two")]))["correlation"]["count"] == 2


def test_of_many_events_the_last_fifty_are_told_and_all_are_counted():
    """A storm of thousands fits a message."""
    found = on_the_wire(together([deletion(number) for number in range(2_000)]))["correlation"]
    assert (found["count"], len(found["events"])) == (2_000, 50)
    assert [found["events"][at]["id"] for at in (0, -1)] == ["event-1950", "event-1999"]


def hostile(number: int, huge: str) -> Record:
    """A record in which every text of the caller's and of AWS's is huge."""
    members = ("eventID", "awsRegion", "errorCode", "sourceIPAddress", "userAgent", "requestID", "recipientAccountId")
    identity = {"type": huge, "arn": huge, "userName": huge, "sessionContext": {"sourceIdentity": huge, "sessionIssuer": {"arn": huge}}}
    wild = {**dict.fromkeys(members, huge), "userIdentity": identity, "requestParameters": {"instanceProfileName": huge}}
    return Record({**deletion(number).event, **wild}, OBJECT)


@pytest.mark.parametrize(("letter", "most_bytes"), [("x", 160_000), ("\x01", 512_000)])
def test_events_with_huge_members_keep_no_correlation_off_its_queue(letter, most_bytes):
    """Texts of 200,000 characters are cut, also in facts and groups, and as many events are told as fit, the last one at least.

    The second letter is the worst: JSON spells it with six.
    """
    huge = letter * 200_000
    read = on_the_wire(
        together([hostile(number, huge) for number in range(100)], group={"awsRegion": huge[:2048]}),
        authorised={"authorised": False, "because": huge},
        profile={"tags": {huge: huge}, "roles": [huge]},
    )
    assert read["correlation"]["count"] == 100
    assert 1 <= len(read["correlation"]["events"]) <= 50
    assert len(orjson.dumps(read["correlation"])) < 100_000
    assert len(orjson.dumps(read)) < most_bytes


def test_huge_reasons_are_cut_too():
    """Why an action was withheld and why a fact is unknown may hold texts of the record."""
    of = finding(deletion(1, errorCode="x" * 200_000), Rule("r", "A rule", Level.HIGH, remediation=("restore-instance-profile",)))
    unknown = Fact("profile", FactStatus.UNKNOWN, None, NOON, FactSource.LIVE, "x" * 200_000)
    found = EnrichedFinding(of, {"profile": unknown})
    planned = plan(found)
    assert len(planned.withheld[0].reason) > 200_000
    assert len(orjson.dumps(wire.finding_as_dict(found, planned))) < 20_000


def test_a_huge_text_does_not_keep_a_finding_off_its_queue():
    """A user agent of 300 KB is cut, so that finding and task fit a message."""
    event = next(event for rule, event in HITS if rule.rule.title == "Instance profile deleted")
    for found in enriched({**event, "userAgent": "x" * 300_000}):
        planned = plan(found)
        assert len(orjson.dumps(wire.finding_as_dict(found, planned))) < 20_000
        assert all(len(orjson.dumps(wire.task_as_dict(task, NOON))) < 20_000 for task in planned.tasks)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(HITS),
    st.dictionaries(
        st.sampled_from(
            [
                "userIdentity",
                "requestParameters",
                "responseElements",
                "eventTime",
                "awsRegion",
                "recipientAccountId",
                "errorCode",
                "eventID",
                "sourceIPAddress",
                "userAgent",
                "requestID",
            ]
        ),
        JSON,
        max_size=6,
    ),
)
def test_no_member_of_any_type_breaks_a_finding(hit, wild):
    """CloudTrail is written by others: a member of any type gives a valid finding or none, also as OCSF."""
    for found in enriched(hit[1] | wild):
        told = orjson.loads(orjson.dumps(wire.finding_as_dict(found, plan(found))))
        FINDING.validate(told)
        assert as_ocsf(told, "1", NOON)["class_uid"] == 2004


def test_an_ocsf_event_says_what_the_finding_says():
    """Severity, time, rule and actor stand where OCSF 1.3 has them."""
    event = next(event for rule, event in HITS if rule.rule.title == "Instance profile deleted")
    found = next(enriched(event))
    as_json = wire.finding_as_dict(found, plan(found))
    told = as_ocsf(as_json, "1.2.3", NOON)
    assert (told["class_uid"], told["type_uid"], told["severity_id"], told["category_uid"]) == (2004, 200401, 4, 2)
    assert told["finding_info"]["uid"] == as_json["id"]
    assert told["evidences"][0]["api"]["operation"] == "DeleteInstanceProfile"
    assert told["time"] == int(found.finding.record.time.timestamp() * 1000)
    assert not told.keys() & {"count", "start_time", "end_time"}
    assert "related_events" not in told["finding_info"]


def test_an_ocsf_event_is_as_severe_as_the_finding_not_as_its_rule():
    """What circumstances made low is low for a SIEM too, which still learns the rule's own level and why."""
    rule = Rule("r", "A rule", Level.CRITICAL, level_when={"replaced": Level.LOW})
    read = on_the_wire(finding(deletion(1), rule), replaced={"replaced": True, "same_role": True, "same_principal": True})
    event = as_ocsf(read, "1", NOON)
    assert (event["severity_id"], event["severity"]) == (2, "Low")
    assert (event["unmapped"]["rule_level"], event["unmapped"]["circumstances"]) == ("critical", ["replaced"])


def test_the_events_of_a_correlation_are_related_events_and_evidence():
    """By their CloudTrail ids, as far as they have one; their number and span stand where OCSF 1.3 has them."""
    records = [deletion(1), deletion(2, eventID=None, who="alice"), deletion(3, second=190)]
    event = as_ocsf(on_the_wire(together(records)), "1", NOON)
    assert event["finding_info"]["related_events"] == [{"uid": "event-1"}, {"uid": "event-3"}]
    assert (event["count"], event["end_time"] - event["start_time"], event["end_time"]) == (3, 189_000, event["time"])
    assert [one["actor"]["user"]["uid"].rpartition("/")[2] for one in event["evidences"]] == ["mallory", "mallory", "alice"]
    assert event["unmapped"]["correlation"]["events"][1]["time"] == "2026-11-23T12:00:02Z"
