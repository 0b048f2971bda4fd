"""The shipped rules hold what they promise: complete, tested by their own samples, explained, indexed, and at levels that on-call can live with."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from worker.detect import library, offline, samples
from worker.detect.correlation import Correlation
from worker.detect.heading import Sample
from worker.detect.rulefile import CompiledRule
from worker.dispatch.plan import PLANNERS
from worker.enrich import profile
from worker.enrich.verdicts import judge_replacement
from worker.local.story import BATCH, CHANGE, DEPLOYER, FLEET, USER, Cast, Instance, tell
from worker.model import WORSE, EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Origin, Record

BOOK = library.load([])
BY_STEM = {Path(rule.path).stem: rule for rule in BOOK.rules}
CORRELATIONS = {one.rule.title: one for one in BOOK.correlations}
EVERY: tuple[CompiledRule | Correlation, ...] = (*BOOK.rules, *BOOK.correlations)
ROOT = Path(__file__).resolve().parent.parent.parent

REMEDIATION = {
    "instance_profile_deleted": ("restore-instance-profile",),
    "role_removed_from_instance_profile": ("reattach-role",),
    "access_key_created": ("deactivate-access-key",),
    "access_key_created_for_another_user": ("deactivate-access-key",),
    "login_profile_created": ("require-password-reset",),
    "login_profile_updated": ("require-password-reset",),
    "console_sign_in_without_mfa": ("enforce-mfa",),
    "mfa_device_deactivated": ("enforce-mfa",),
    "own_mfa_device_deactivated": ("enforce-mfa",),
    "account_password_policy_deleted": ("enforce-password-policy",),
    "account_password_policy_weakened": ("enforce-password-policy",),
}
"""What may be done about which; every other rule only tells."""

PAGING = {"root_access_key_created", "quarantine_policy_attached", "trail_stopped"}
"""The single events that wake somebody: each is rare, and none has an honest reason that nobody announced."""

TACTICS = {
    "t1069.003": {"discovery"},
    "t1078.004": {"initial-access", "persistence", "privilege-escalation", "stealth"},
    "t1087.004": {"discovery"},
    "t1098": {"persistence", "privilege-escalation"},
    "t1098.001": {"persistence", "privilege-escalation"},
    "t1098.003": {"persistence", "privilege-escalation"},
    "t1136.003": {"persistence"},
    "t1531": {"impact"},
    "t1550.001": {"lateral-movement"},
    "t1556": {"credential-access", "defense-impairment", "persistence"},
    "t1556.006": {"credential-access", "defense-impairment", "persistence"},
    "t1685.002": {"defense-impairment"},
}
"""The techniques that shipped rules name, with their tactics in ATT&CK 19 (which parted defense evasion, and made T1562.008 T1685.002)."""

DENIED = {"errorCode": "AccessDenied", "requestParameters": None, "responseElements": None}


def records(events: Iterable[Mapping[str, Any]]) -> list[Record]:
    return [Record(event, Origin(path="sample")) for event in events]


def found(event: Mapping[str, Any]) -> list[str]:
    """The stems of the rules that match; every deed of root is also told as one of root, and some are told once more when facts make them worse."""
    (record,) = records([event])
    stems = {rule.rule.id: stem for stem, rule in BY_STEM.items()}
    return [stem for one in BOOK.match(record).findings if (stem := stems[one.rule.id]) != "root_used" and not one.rule.only_when]


def headings() -> list[str]:
    return [
        heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    ]


# What stands in the files.


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.rule.title)
def test_a_shipped_rule_is_complete(one: CompiledRule | Correlation):
    """Every rule and correlation explains itself: what it means, where to read on, what else it may be, which technique it is of, what to do."""
    rule = one.rule
    assert UUID(rule.id).version == 4
    assert len(rule.description) > 80
    assert rule.references
    for reference in rule.references:
        assert urlsplit(reference)[:2] == ("https", "docs.aws.amazon.com"), reference
        assert reference.endswith(".html"), reference
        assert " " not in reference, reference
    assert rule.falsepositives
    techniques = [tag.removeprefix("attack.") for tag in rule.tags if re.match(r"attack\.t\d", tag)]
    tactics = {tag.removeprefix("attack.") for tag in rule.tags} - set(techniques)
    assert techniques
    assert all(tag.startswith("attack.") for tag in rule.tags)
    assert tactics <= set().union(*(TACTICS[technique] for technique in techniques))
    assert all(tactics & TACTICS[technique] for technique in techniques)
    assert rule.runbook is not None
    page, _, anchor = rule.runbook.partition("#")
    assert page == "docs/runbooks.md"
    assert anchor in headings()
    assert anchor == Path(one.path).stem.removeprefix("correlation_").replace("_", "-")
    assert all(action in PLANNERS for action in rule.remediation)


def test_ids_and_titles_are_unique():
    """No two rules or correlations share an id or a title: a correlation or suppression of anybody's may name one by either."""
    for told in ([one.rule.id for one in EVERY], [one.rule.title.lower() for one in EVERY]):
        assert [each for each, count in Counter(told).items() if count > 1] == []


def test_there_is_a_runbook_section_for_each_file_and_no_other():
    """docs/runbooks.md has one section a rule, one for the correlations of a file, and each once."""
    files = {Path(one.path).stem.removeprefix("correlation_").replace("_", "-") for one in EVERY}
    assert sorted(headings()) == sorted(files)


def test_only_the_rules_that_say_so_ask_for_a_remedy():
    """Nothing is asked to be changed by a rule that was not thought through for it; a correlation leaves it to the rules it watches."""
    asked = {stem: rule.rule.remediation for stem, rule in BY_STEM.items() if rule.rule.remediation}
    assert asked == REMEDIATION
    assert not any(one.rule.remediation for one in BOOK.correlations)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.rule.title)
def test_what_explains_a_finding_lowers_its_level(one: CompiledRule | Correlation):
    """What explains it only ever lowers; a change number, which anybody can write, lowers less than being authorised, and no page below high.

    That nothing depends on a profile lowers what was done to it by one level, for who did it is still not known; wide use raises it by one.
    """
    rule, when = one.rule, one.rule.level_when
    assert all((level.rank > rule.level.rank) is (circumstance in WORSE) for circumstance, level in when.items())
    assert all(level is not rule.level for level in when.values())
    assert all(abs(when[step].rank - rule.level.rank) == 1 for step in ("unused", "wide") if step in when)
    assert (
        ("unused" in when)
        is ("wide" in when)
        is (Path(one.path).stem in {"instance_profile_deleted", "role_removed_from_instance_profile"})
    )
    if "documented" in when:
        assert when["documented"].rank >= when["authorised"].rank
        assert when["documented"].rank >= {Level.CRITICAL: 3, Level.HIGH: 2}.get(rule.level, 0)
    assert "replaced" not in when or Path(one.path).stem == "instance_profile_deleted"


def test_few_single_events_page():
    """Of the rules of one event only those page that are listed here with their reason."""
    assert {stem for stem, rule in BY_STEM.items() if rule.rule.level is Level.CRITICAL} == PAGING


def test_one_single_event_pages_by_its_reach():
    """A deletion pages where more than ten running instances depend on the profile and nothing explains it."""
    reaching = {stem for stem, rule in BY_STEM.items() if rule.rule.level_when.get("wide") is Level.CRITICAL}
    assert reaching == {"instance_profile_deleted"}


@pytest.mark.parametrize(
    ("impact", "deleted", "removed"),
    [
        ({"unused": True, "wide": False}, Level.MEDIUM, Level.LOW),
        ({"unused": False, "wide": False}, Level.HIGH, Level.MEDIUM),
        ({"unused": False, "wide": True}, Level.CRITICAL, Level.HIGH),
    ],
)
def test_what_depends_on_a_profile_moves_the_level(impact: Mapping[str, Any], deleted: Level, removed: Level):
    """Of an attack as of an unregistered replacement; authorised, it is low whatever depends on it."""
    facts = {"impact": Fact("impact", FactStatus.KNOWN, impact, NOW, FactSource.LIVE)}
    for event in (ATTACK, HONEST):
        assert levels(event, facts)["Instance profile deleted"] is deleted
        assert levels(event, facts)["Role removed from instance profile"] is removed
        calm = levels(event, facts | {"authorised": known("authorised")})
        assert calm["Instance profile deleted"] is calm["Role removed from instance profile"] is Level.LOW


def test_every_rule_is_indexed():
    """Each rule demands a literal event source and name; that for root, which may do anything, the type of identity."""
    assert BOOK.unindexed == ()
    for stem, rule in BY_STEM.items():
        for source, name, identity in rule.demands:
            assert (source and name) or (stem == "root_used" and identity == "root"), stem


# The samples.


@pytest.mark.parametrize("stem", sorted(BY_STEM))
def test_a_shipped_rule_shows_a_hit_a_miss_and_a_refused_call(stem: str):
    """Every rule carries an event that it finds, one that it does not, and a call that failed and left no parameters."""
    shown = BY_STEM[stem].samples
    assert {sample.match for sample in shown} == {True, False}
    events = [event for sample in shown for event in sample.events]
    failed = [event for event in events if "errorCode" in event or "errorMessage" in event]
    assert any("requestParameters" in event and event["requestParameters"] is None for event in failed)


@pytest.mark.parametrize("one", samples.run(BOOK), ids=lambda one: f"{one.rule.rule.title}: {one.sample.name}")
def test_a_shipped_sample_passes(one: samples.SampleResult):
    """Every sample of every shipped rule and correlation gets the answer it says."""
    assert one.text is None


CHANGES = [
    pytest.param(stem, sample.events[0], id=f"{stem}: {sample.name}")
    for stem, rule in BY_STEM.items()
    if stem not in ("call_denied", "instance_profile_change_failed", "user_change_failed", "root_used") and not rule.rule.only_when
    for sample in rule.samples
    if sample.match
]


OF_USERS = re.compile(r"User|AccessKey|LoginProfile|MFADevice|PasswordPolicy|PublicKey|SigningCertificate|ServiceSpecificCredential")


def failed_by(event_name: str) -> list[str]:
    """The rule that tells of a call that was allowed and failed."""
    if "InstanceProfile" in event_name:
        return ["instance_profile_change_failed"]
    return ["user_change_failed"] if OF_USERS.search(event_name) else []


@pytest.mark.parametrize(("stem", "event"), CHANGES)
def test_one_deed_is_told_by_one_rule(stem: str, event: Mapping[str, Any]):
    """What a rule tells is told by no other; refused for lack of rights or failed, by the rule for that alone."""
    assert found(event) == [stem]
    console = stem == "console_sign_in_without_mfa"
    assert found({**event, **DENIED}) == ([] if console else ["call_denied"])
    assert found({**event, "errorCode": "NoSuchEntityException"}) == failed_by(str(event["eventName"]))


def test_denied_calls_are_those_that_other_rules_tell():
    """The rule for denied calls watches each call that another rule tells of, and nothing else: a new rule has to be entered there."""
    others = {
        demand[:2] for stem, rule in BY_STEM.items() if stem not in ("call_denied", "root_used") for demand in rule.demands if demand[0]
    }
    assert {demand[:2] for demand in BY_STEM["call_denied"].demands} == {each for each in others if each[0] != "signin.amazonaws.com"}


@pytest.mark.parametrize("source", ["dms.amazonaws.com", "devicefarm.amazonaws.com", "evil.example.com", ""])
def test_another_services_instance_profile_is_none_of_ours(source: str):
    """The event source decides: DMS and Device Farm have a DeleteInstanceProfile of their own."""
    assert not found({"eventSource": source, "eventName": "DeleteInstanceProfile", "requestParameters": {"instanceProfileName": "x"}})


# The correlations.


@pytest.mark.parametrize("title", sorted(CORRELATIONS))
def test_a_shipped_correlation_is_told_at_once_and_silences_nothing(title: str):
    """Each is of the kind that more events can only make truer, leaves the rules it watches their own findings, and shows hits and misses."""
    one = CORRELATIONS[title]
    assert one.generate
    assert not one.closing
    assert one.timespan <= timedelta(hours=1)
    assert sum(sample.match for sample in one.samples) >= 1
    assert sum(not sample.match for sample in one.samples) >= 2
    assert BOOK.silent == frozenset()


@pytest.mark.parametrize(
    ("title", "sample", "drop"),
    [
        (title, sample, number)
        for title, one in CORRELATIONS.items()
        for sample in one.samples[:1]
        for number in range(len(sample.events))
        if sample.events[number].get("errorCode") is None or "denied" in title
    ],
)
def test_a_correlation_needs_each_of_its_events(title: str, sample: Sample, drop: int):
    """Without any one of the events in its first sample, a try that AWS refused on the way aside, nothing is correlated; with all of them, this alone."""
    whole = [one.rule.title for one in offline.findings(BOOK, records(sample.events))]
    part = [one.rule.title for one in offline.findings(BOOK, records(event for n, event in enumerate(sample.events) if n != drop))]
    assert [each for each in whole if each in CORRELATIONS] == [title]
    assert title not in part


@pytest.mark.parametrize("title", sorted(CORRELATIONS))
def test_a_correlation_joins_one_principal(title: str):
    """The events of a correlation's first sample, the last of them by somebody else, correlate to nothing."""
    (*events, last) = CORRELATIONS[title].samples[0].events
    stranger = json.loads(re.sub(r"(user/|role/|assumed-role/|userName\": \")", r"\1other-", json.dumps(last["userIdentity"])))
    assert title not in [one.rule.title for one in offline.findings(BOOK, records([*events, {**last, "userIdentity": stranger}]))]


# Levels, as the stories of the demo make them.

NOW = datetime(2026, 7, 7, 14, 2, 33, tzinfo=UTC)
CAST = Cast(
    user_id="AIDAEXAMPLEEXAMPLE01",
    new_key_id="AKIAEXAMPLEEXAMPLE02",
    fleet_role_id="AROAEXAMPLEEXAMPLE01",
    fleet_profile_id="AIPAEXAMPLEEXAMPLE01",
    fleet=(Instance("i-0aaaaaaaaaaaaaaa1", "us-east-1", "web-1"),),
    deployer_role_id="AROAEXAMPLEEXAMPLE02",
    batch_role_id="AROAEXAMPLEEXAMPLE03",
    batch_profile_id="AIPAEXAMPLEEXAMPLE02",
    new_batch_profile_id="AIPAEXAMPLEEXAMPLE03",
)


def story() -> list[Record]:
    """Every record that the demo delivers, each once."""
    told = tell(2026, NOW, CAST)
    objects = [one.body for part in (told.past, told.present) for one in part.objects if one.body and "/CloudTrail/" in one.key]
    events = {event["eventID"]: event for body in objects for event in json.loads(gzip.decompress(body))["Records"]}
    return records(events.values())


STORY = story()
FOUND = [one for one in offline.findings(BOOK, STORY) if one.record.time and one.record.time > NOW - timedelta(hours=2)]
HONEST = [one for one in FOUND if one.actor.name == DEPLOYER]
ATTACK = [one for one in FOUND if one.actor.name == USER]


def known(name: str, **value: Any) -> Fact:
    return Fact(name, FactStatus.KNOWN, {name: True, **value}, NOW, FactSource.MEMORY)


def replaced(finding: Finding, *, seen: bool, live: Fact) -> Fact:
    """The fact `replaced`, by the records read (all of the story, or those up to the deletion) and what IAM answers."""
    at = finding.record.time
    assert at is not None
    read = [record for record in STORY if seen or (record.time is not None and record.time <= at)]
    events = [event for record in read for event in profile.events_of(record) if event.profile == finding.subject.name]
    value = profile.fold(events, at).as_value()
    remembered = Fact("profile", FactStatus.KNOWN, value, NOW, FactSource.MEMORY)
    return judge_replacement(at, profile.principal_of(finding.record), remembered, live)


UNREACHABLE = Fact("profile_live", FactStatus.UNKNOWN, None, NOW, FactSource.LIVE, "denied")
GONE = Fact("profile_live", FactStatus.GONE, None, NOW - timedelta(minutes=48), FactSource.LIVE)
MADE_AGAIN = Fact(
    "profile_live",
    FactStatus.KNOWN,
    {"created": (NOW - timedelta(minutes=40)).isoformat(), "roles": [BATCH]},
    NOW,
    FactSource.LIVE,
)


def levels(findings: Iterable[Finding], facts: Mapping[str, Fact]) -> dict[str, Level]:
    told = [EnrichedFinding(one, facts) for one in findings]
    return {one.finding.rule.title: one.level for one in told if one.lacking is None}


def deletion(findings: Iterable[Finding]) -> Finding:
    (found,) = [one for one in findings if one.record.name == "DeleteInstanceProfile" and not one.record.error_code and not one.occurrence]
    return found


def test_the_authorised_replacement_is_low():
    """Terraform replaces a profile as a registered principal: nothing of it is above low, and no correlation speaks."""
    assert levels(HONEST, {"authorised": known("authorised")}) == {
        "Role removed from instance profile": Level.LOW,
        "Instance profile deleted": Level.LOW,
        "Instance profile created": Level.INFORMATIONAL,
        "Role added to instance profile": Level.INFORMATIONAL,
        "Instance profile tagged": Level.INFORMATIONAL,
    }


@pytest.mark.parametrize(
    ("seen", "live", "level"),
    [
        pytest.param(True, UNREACHABLE, Level.LOW, id="its records were read, and IAM cannot be asked"),
        pytest.param(True, MADE_AGAIN, Level.LOW, id="its records were read, and IAM confirms it"),
        pytest.param(False, MADE_AGAIN, Level.LOW, id="only IAM tells of it"),
        pytest.param(False, GONE, Level.HIGH, id="told before it happened"),
        pytest.param(False, UNREACHABLE, Level.HIGH, id="nothing tells of it"),
    ],
)
def test_the_replacement_that_nobody_registered_pages_never(seen: bool, live: Fact, level: Level):
    """By an unregistered principal it is low as soon as anything tells of the new profile; else high once, which is a ticket and no page."""
    facts = {"replaced": replaced(deletion(HONEST), seen=seen, live=live)}
    assert EnrichedFinding(deletion(HONEST), facts).level is level
    assert max(level.rank for level in levels(HONEST, facts).values()) <= Level.HIGH.rank
    assert EnrichedFinding(deletion(HONEST), facts | {"documented": known("documented", change=CHANGE)}).level is min(
        level, Level.MEDIUM, key=lambda one: one.rank
    )


def test_a_profile_made_again_for_show_stays_high():
    """Made again without its role, or by another principal, a deletion keeps its level: whoever covers tracks could do so."""
    empty = Fact("profile_live", FactStatus.KNOWN, {"created": NOW.isoformat(), "roles": []}, NOW, FactSource.LIVE)
    fact = replaced(deletion(ATTACK), seen=False, live=empty)
    assert (fact.value["replaced"], fact.value["same_role"]) == (True, False)
    assert EnrichedFinding(deletion(ATTACK), {"replaced": fact}).level is Level.HIGH
    by_other = known("replaced", same_role=True, same_principal=False)
    assert EnrichedFinding(deletion(ATTACK), {"replaced": by_other}).level is Level.HIGH


def test_the_attack_pages_once():
    """Each step of the attacker is told at its own level, and the chain of them is the one page."""
    facts = {"replaced": replaced(deletion(ATTACK), seen=True, live=GONE)}
    assert levels(ATTACK, facts) == {
        "Console sign-in without MFA": Level.HIGH,
        "Access key created": Level.MEDIUM,
        "Watched call denied": Level.MEDIUM,
        "Change of an instance profile failed": Level.LOW,
        "Role removed from instance profile": Level.MEDIUM,
        "Instance profile deleted": Level.HIGH,
        "Instance profile deleted by a user who signed in without MFA and made a key": Level.CRITICAL,
    }
    (chain,) = [one for one in FOUND if one.occurrence is not None]
    assert chain.subject.name == FLEET
    assert chain.occurrence is not None
    assert [sighting.record.name for sighting in chain.occurrence.sightings] == [
        "ConsoleLogin",
        "CreateAccessKey",
        "RemoveRoleFromInstanceProfile",
        "DeleteInstanceProfile",
    ]


def test_nothing_excuses_the_chain():
    """Whatever the user may do and whatever change they name, the chain pages: a stolen password brings both along."""
    (chain,) = [one for one in ATTACK if one.occurrence is not None]
    assert EnrichedFinding(chain, {"authorised": known("authorised"), "documented": known("documented")}).level is Level.CRITICAL


# Real records.


def test_real_chains_are_found(shared_data: Path):
    """What was done to one real account in an hour is found, each deed as often as it was done."""
    paths = sorted((shared_data / "cloudtrail" / "invictus").rglob("*.json.gz"))
    events = [event for path in paths for event in json.loads(gzip.decompress(path.read_bytes()))["Records"]]
    counted = Counter(one.rule.title for one in offline.findings(BOOK, records(events)))
    assert counted == {
        "Access key created for another user": 2,
        "Access key deleted": 2,
        "Administrator policy attached": 2,
        "Change of an IAM user failed": 3,
        "Console password created": 2,
        "Console password deleted": 2,
        "Console sign-in without MFA": 1,
        "IAM read as a whole": 1,
        "Instance profile and role torn down by one user": 2,
        "Instance profile created": 3,
        "Instance profile deleted": 3,
        "Instance profile tagged": 3,
        "Policy taken from user": 1,
        "Role added to instance profile": 3,
        "Role deleted": 13,
        "Role removed from an instance profile in use": 3,  # as far as the records alone tell
        "Role removed from instance profile": 3,
        "Trail records less": 1,
        "Trail stopped or deleted": 2,
        "Trust policy of role changed": 2,
        "User created": 4,
        "User deleted": 4,
    }
