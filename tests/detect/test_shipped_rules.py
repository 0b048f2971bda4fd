"""The shipped rules hold what they promise: complete, tested by their own samples, explained, and asking for known actions only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from worker.detect import rulebook, samples
from worker.detect.rulebook import CompiledRule
from worker.model import Level, Origin, Record

BOOK = rulebook.load([])
BY_STEM = {Path(rule.path).stem: rule for rule in BOOK.rules}
ROOT = Path(__file__).resolve().parent.parent.parent

REMEDIATION = {
    "instance_profile_deleted": ("restore-instance-profile",),
    "role_removed_from_instance_profile": ("reattach-role",),
    "access_key_created": ("deactivate-access-key",),
    "login_profile_created": ("require-password-reset",),
    "login_profile_updated": ("require-password-reset",),
    "console_sign_in_without_mfa": ("enforce-mfa",),
    "mfa_device_deactivated": ("enforce-mfa",),
}
"""What may be done about which; every other rule only tells."""

LEVELS = {"instance_profile_deleted": Level.HIGH, "role_removed_from_instance_profile": Level.MEDIUM}


@pytest.mark.parametrize("stem", sorted(BY_STEM))
def test_a_shipped_rule_is_complete(stem: str):
    """Every rule explains itself: a real id, what it means, references, what else it may be, and a runbook section that is there."""
    rule = BY_STEM[stem].rule
    assert UUID(rule.id).version == 4
    assert len(rule.description) > 80
    assert rule.references
    assert all(reference.startswith("https://docs.aws.amazon.com/") for reference in rule.references)
    assert rule.falsepositives
    assert rule.tags
    assert all(tag.startswith("attack.") for tag in rule.tags)
    assert rule.runbook is not None
    page, _, anchor = rule.runbook.partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]
    assert anchor == stem.replace("_", "-")
    assert rule.remediation == REMEDIATION.get(stem, ())
    assert LEVELS.get(stem, rule.level) is rule.level


@pytest.mark.parametrize("stem", sorted(BY_STEM))
def test_a_shipped_rule_shows_a_hit_a_miss_and_a_denied_call(stem: str):
    """Every rule carries an event that it finds, one that it does not, and a call that failed and left no parameters."""
    shown = BY_STEM[stem].samples
    assert {sample.match for sample in shown} == {True, False}
    failed = [sample for sample in shown if "errorCode" in sample.event or "errorMessage" in sample.event]
    assert any("requestParameters" in sample.event and sample.event["requestParameters"] is None for sample in failed)


@pytest.mark.parametrize("result", samples.run(BOOK), ids=lambda result: f"{Path(result.rule.path).stem}: {result.sample.name}")
def test_a_shipped_sample_passes(result: samples.SampleResult):
    """Every sample of every shipped rule gets the answer it says."""
    assert result.text is None


def test_there_is_a_runbook_section_for_each_rule_and_no_other():
    """docs/runbooks.md has one section a rule."""
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert sorted(heading.lower().replace(" ", "-") for heading in headings) == sorted(stem.replace("_", "-") for stem in BY_STEM)


def found(event: dict[str, Any]) -> list[str]:
    return [Path(rule.path).stem for rule in BOOK.rules if rule.matches(event)]


def successes() -> list[tuple[CompiledRule, dict[str, Any]]]:
    kept = {"instance_profile_change_failed", "user_change_failed", "root_used"}
    return [(rule, dict(one.event)) for stem, rule in BY_STEM.items() if stem not in kept for one in rule.samples if one.match]


@pytest.mark.parametrize(("rule", "event"), [pytest.param(*case, id=Path(case[0].path).stem) for case in successes()])
def test_a_failed_try_is_told_by_another_rule(rule: CompiledRule, event: dict[str, Any]):
    """A rule that tells of a change says nothing of a refused one; the rule for failed tries does, for every change there is a rule for."""
    stem = Path(rule.path).stem
    refused = {**event, "errorCode": "AccessDenied", "requestParameters": None, "responseElements": None}
    failed = "instance_profile_change_failed" if "instance_profile" in stem else "user_change_failed"
    assert found(event) == [stem]
    assert found(refused) == ([] if stem == "console_sign_in_without_mfa" else [failed])


@pytest.mark.parametrize("source", ["dms.amazonaws.com", "devicefarm.amazonaws.com", "evil.example.com", ""])
def test_another_services_instance_profile_is_none_of_ours(source: str):
    """The event source decides: DMS and Device Farm have a DeleteInstanceProfile of their own."""
    assert not found({"eventSource": source, "eventName": "DeleteInstanceProfile", "requestParameters": {"instanceProfileName": "x"}})


def test_real_chains_are_found(shared_data: Path):
    """The three real DeleteInstanceProfile calls, and the steps before each, are found in one hour of a real account."""
    import gzip
    import json
    from collections import Counter

    counted: Counter[str] = Counter()
    for path in (shared_data / "cloudtrail" / "invictus").rglob("*.json.gz"):
        for event in json.loads(gzip.decompress(path.read_bytes()))["Records"]:
            for finding in BOOK.match(Record(event, Origin(path=str(path)))).findings:
                counted[finding.rule.title] += 1
                assert finding.subject.type != "unknown"
    for title in ("Instance profile deleted", "Role removed from instance profile", "Instance profile created", "Instance profile tagged"):
        assert counted[title] == 3
    assert counted["Change of an IAM user failed"] == 3
    assert counted["Console sign-in without MFA"] == 1
