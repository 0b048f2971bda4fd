"""Each happening is counted and logged, in one call, under the labels that alerts and dashboard know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from tests.fakes import NOON, sample
from worker.detect.document import RuleFault
from worker.model import Actor, EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Origin, Record, Rule, Subject
from worker.observe.metrics import Metrics


class Told:
    """Metrics, and what they log."""

    def __init__(self) -> None:
        self.capture = LogCapture()
        self.metrics = Metrics(CollectorRegistry(), structlog.wrap_logger(None, processors=[self.capture]))

    @property
    def log(self) -> list[dict[str, object]]:
        return [dict(entry) for entry in self.capture.entries]


@pytest.fixture
def told() -> Told:
    return Told()


def found(
    *, authorised: bool | None = None, error: str | None = None, level_when: Mapping[str, Level] = MappingProxyType({})
) -> EnrichedFinding:
    """A finding of a critical rule on an event five minutes old."""
    event = {"eventName": "DeleteInstanceProfile", "eventTime": "2026-11-23T11:55:00Z", "errorCode": error}
    rule = Rule("deleted", "Instance profile deleted", Level.CRITICAL, level_when=level_when)
    finding = Finding(rule, Record(event, Origin(path="log.json")), Actor("IAMUser", name="ada"), Subject("instance-profile", "web"))
    value = {"authorised": authorised}
    facts = {} if authorised is None else {"authorised": Fact("authorised", FactStatus.KNOWN, value, NOON, FactSource.EVENT)}
    return EnrichedFinding(finding, facts)


def test_a_finding_counts_under_the_level_of_its_rule(told):
    """Where nothing explains it; the log line has no second level."""
    told.metrics.finding(found(authorised=False, level_when={"authorised": Level.LOW}), NOON)
    assert sample(told.metrics, "findings_total", rule="deleted", level="critical") == 1
    (line,) = told.log
    assert (line["severity"], line["subject"]) == ("critical", "web")
    assert "rule_level" not in line
    assert sample(told.metrics, "event_lag_seconds_sum") == timedelta(minutes=5).total_seconds()


def test_a_finding_that_is_explained_counts_under_the_lower_level(told):
    """What pages on-call is the level that the facts leave; the rule's own stands beside it in the log, with what explains it."""
    told.metrics.finding(found(authorised=True, level_when={"authorised": Level.LOW}), NOON)
    assert sample(told.metrics, "findings_total", rule="deleted", level="low") == 1
    assert sample(told.metrics, "findings_total", rule="deleted", level="critical") == 0
    (line,) = told.log
    assert (line["severity"], line["rule_level"], line["circumstances"]) == ("low", "critical", ("authorised",))


def test_a_dry_run_is_informational(told):
    """Nothing was changed, so nobody is paged."""
    told.metrics.finding(found(error="Client.DryRunOperation"), NOON)
    assert sample(told.metrics, "findings_total", rule="deleted", level="informational") == 1


@pytest.mark.parametrize("band", ["0", "1-10", "11-100", "100+"])
def test_a_finding_counts_under_the_band_of_its_impact(told, band):
    """The labels are the bands alone; one that is not known counts as unknown, and a finding about something else not at all."""
    plain = found()
    told.metrics.finding(
        EnrichedFinding(plain.finding, {"impact": Fact("impact", FactStatus.KNOWN, {"band": band}, NOON, FactSource.LIVE)}), NOON
    )
    told.metrics.finding(EnrichedFinding(plain.finding, {"impact": Fact("impact", FactStatus.UNKNOWN, None, NOON, FactSource.LIVE)}), NOON)
    nothing = Fact("impact", FactStatus.KNOWN, {"band": None}, NOON, FactSource.LIVE)
    told.metrics.finding(EnrichedFinding(plain.finding, {"impact": nothing}), NOON)
    told.metrics.finding(plain, NOON)
    assert sample(told.metrics, "findings_impact_total", band=band) == 1
    assert sample(told.metrics, "findings_impact_total", band="unknown") == 2
    (family,) = [one for one in told.metrics.registry.collect() if one.name == "trailmend_findings_impact"]
    assert {one.labels["band"] for one in family.samples} == {band, "unknown"}


def test_a_suppressed_finding_is_counted_under_both_and_logged_with_the_reason(told):
    """Nothing is swallowed: who looks can tell what was not told, and why."""
    told.metrics.suppressed("deleted", "vpc-migration", "CHG0048213", "finding-1")
    assert sample(told.metrics, "findings_suppressed_total", rule="deleted", suppression="vpc-migration") == 1
    (line,) = told.log
    assert (line["event"], line["reason"], line["finding_id"]) == ("finding_suppressed", "CHG0048213", "finding-1")


def test_sightings_and_spans_are_counted(told):
    """By the correlation; what is dropped also by the reason, and logged."""
    told.metrics.sighted("c", 3)
    told.metrics.sighting_dropped("c", "late", 2)
    told.metrics.window_closed("c", "found")
    assert sample(told.metrics, "sightings_total", rule="c") == 3
    assert sample(told.metrics, "sightings_dropped_total", rule="c", reason="late") == 2
    assert sample(told.metrics, "windows_closed_total", rule="c", outcome="found") == 1
    assert [(line["event"], line["log_level"]) for line in told.log] == [("sighting_dropped", "warning"), ("window_closed", "debug")]


def test_every_reason_for_a_dropped_sighting_is_explained():
    """Whoever reads the metric's help learns what each reason means."""
    (family,) = [one for one in Told().metrics.registry.collect() if one.name == "trailmend_sightings_dropped"]
    assert all(f"{reason} (" in family.documentation for reason in ("untimed", "crowded", "late"))


def test_rules_refused_stands_until_rules_are_taken(told):
    """The gauge is 1 from a refusal to the next set in force, every fault is an error in the log, and the counts stay the old ones'."""
    told.metrics.rules_loaded(25, 3, 1, NOON)
    told.metrics.rules_refused([RuleFault("a.yml", 3, "no condition"), RuleFault("b.yml", None, "cannot be read")])
    assert (sample(told.metrics, "rules_refused"), sample(told.metrics, "rules"), sample(told.metrics, "correlations")) == (1, 25, 3)
    faults = [(line["file"], line["line"], line["detail"]) for line in told.log if line["event"] == "rule_fault"]
    assert faults == [("a.yml", 3, "no condition"), ("b.yml", None, "cannot be read")]
    assert {line["log_level"] for line in told.log[1:]} == {"error"}
    told.metrics.rules_reloaded(26, 4, 2, NOON + timedelta(hours=1))
    assert (sample(told.metrics, "rules_refused"), sample(told.metrics, "rules"), sample(told.metrics, "rules_unindexed")) == (0, 26, 2)
    assert sample(told.metrics, "rules_loaded_timestamp_seconds") == (NOON + timedelta(hours=1)).timestamp()
    assert [sample(told.metrics, "rules_reloads_total", outcome=outcome) for outcome in ("ok", "refused")] == [1, 1]
