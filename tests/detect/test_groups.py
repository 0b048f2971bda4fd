"""What a correlation saw is told group by group, and says what the worker would find."""

from __future__ import annotations

from tests.detect.correlations import book, record, watching
from worker.detect import offline
from worker.detect.groups import seen
from worker.model import Record


def test_sightings_fall_into_groups_and_some_fulfil():
    """Each group has its sightings by time, each once; what is found stands with the group that fulfilled the condition."""
    rules = book(watching("event_count", "a", group_by=["userIdentity.arn"], condition={"gte": 2}))
    records = [record("A", 3, "eve"), record("A", 1, "eve"), record("A", 2, "mallory"), record("A", 3, "eve"), record("B", 4, "eve")]
    (correlation,) = rules.correlations
    told = {group.values: group for group in seen(rules, correlation, records).groups}
    assert {values: [one.time.second for one in group.sightings] for values, group in told.items()} == {("eve",): [1, 3], ("mallory",): [2]}
    assert {values: group.found for values, group in told.items()} == {("eve",): True, ("mallory",): False}
    assert [one for group in told.values() for one in group.findings] == [
        one for one in offline.findings(rules, records) if one.rule.id == correlation.rule.id
    ]


def test_what_belongs_to_no_group_is_counted():
    """A match without the group-by field, or without a time, is in no group and is not forgotten."""
    rules = book(watching("event_count", "a", group_by=["userIdentity.userName"], condition={"gte": 1}))
    timeless = Record({"eventSource": "iam.amazonaws.com", "eventName": "A", "userIdentity": {"userName": "x"}}, record("A", 1).origin)
    told = seen(rules, rules.correlations[0], [record("A", 1), record("A", 1), record("A", 2), timeless])
    assert (told.groups, told.ungrouped) == ((), 3)


def test_a_correlation_of_correlations_sees_their_occurrences():
    """What an inner correlation finds is a sighting of the outer one, though the inner one tells nobody of it."""
    inner = watching("event_count", "a", title="Inner", group_by=["userIdentity.arn"], condition={"gte": 2})
    outer = watching("temporal", "inner", "b", title="Outer", group_by=["userIdentity.arn"])
    rules = book(inner, outer)
    (last,) = [one for one in rules.correlations if one.rule.title == "Outer"]
    told = seen(rules, last, [record("A", 1), record("A", 2), record("B", 3), record("A", 4, "eve"), record("B", 5, "eve")])
    assert {group.values: ({one.rule for one in group.sightings}, group.found) for group in told.groups} == {
        ("mallory",): (set(last.rules), True),
        ("eve",): ({last.rules[1]}, False),
    }


def test_a_suppressed_finding_is_told_as_such():
    """A group whose finding is suppressed has fulfilled the condition, and names the suppression."""
    quiet = {"suppressions": [{"id": "quiet", "rules": ["Together"], "until": "2027-01-01", "reason": "a test"}]}
    rules = book(watching("event_count", "a", condition={"gte": 1}), quiet)
    (group,) = seen(rules, rules.correlations[0], [record("A", 1)]).groups
    assert group.found
    assert not group.findings
    assert [one.id for _, one in group.suppressed] == ["quiet"]
