"""Findings and tasks as JSON are what their shipped schemas say, for any record."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.fakes import NOON
from worker.detect.rulebook import load
from worker.dispatch import wire
from worker.dispatch.plan import PLANNERS, plan
from worker.model import EnrichedFinding, Fact, FactSource, FactStatus, Origin, Record
from worker.observe.ocsf import as_ocsf

FINDING = Draft202012Validator(wire.schema("finding"), format_checker=Draft202012Validator.FORMAT_CHECKER)
TASK = Draft202012Validator(wire.schema("task"), format_checker=Draft202012Validator.FORMAT_CHECKER)
RULES = load([])
OBJECT = Origin(bucket="logs", key="a/b.json.gz")
HITS = [(rule, sample.event) for rule in RULES.rules for sample in rule.samples if sample.match]


def enriched(event, origin=OBJECT):
    for finding in RULES.match(Record(event, origin)).findings:
        fact = Fact("authorised", FactStatus.KNOWN, {"authorised": False, "because": "x"}, NOON, FactSource.SETTINGS)
        yield EnrichedFinding(finding, {"authorised": fact})


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
    finding = wire.finding_as_dict(found, plan(found))
    told = as_ocsf(finding, "1.2.3", NOON)
    assert (told["class_uid"], told["type_uid"], told["severity_id"], told["category_uid"]) == (2004, 200401, 4, 2)
    assert told["finding_info"]["uid"] == finding["id"]
    assert told["evidences"][0]["api"]["operation"] == "DeleteInstanceProfile"
    assert told["time"] == int(found.finding.record.time.timestamp() * 1000)
