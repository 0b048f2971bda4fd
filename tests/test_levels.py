"""How bad a finding is: what its rule says, unless something that is known explains it; and never less because of something that is not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON
from tests.occurrences import ACCOUNT, STORM, deletion, finding, together
from worker import cli
from worker.model import CIRCUMSTANCES, WORSE, EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Record, Rule

BACK = {"replaced": True, "same_role": True, "same_principal": True, "in_grace": True}
WIDE, UNUSED = {"wide": True, "unused": False}, {"wide": False, "unused": True}


def found(of: Finding, **facts: Any) -> EnrichedFinding:
    known = {
        name: value if isinstance(value, Fact) else Fact(name, FactStatus.KNOWN, value, NOON, FactSource.EVENT)
        for name, value in facts.items()
    }
    return EnrichedFinding(of, known)


def ruled(level: Level = Level.HIGH, **level_when: Level) -> Rule:
    return Rule("r", "A rule", level, level_when={name.replace("_", "-"): one for name, one in level_when.items()})


def unknown(name: str) -> Fact:
    return Fact(name, FactStatus.UNKNOWN, {name: True}, NOON, FactSource.LIVE, "not to be had")


@pytest.mark.parametrize(
    ("level_when", "facts", "level"),
    [
        ({}, {"authorised": {"authorised": True}, "documented": {"documented": True}, "replaced": BACK}, Level.HIGH),
        ({"authorised": Level.LOW}, {"authorised": {"authorised": True}}, Level.LOW),
        ({"authorised": Level.LOW}, {"authorised": {"authorised": False}}, Level.HIGH),
        ({"authorised": Level.LOW}, {"authorised": unknown("authorised")}, Level.HIGH),
        ({"authorised": Level.LOW}, {"authorised": {"authorised": "yes"}}, Level.HIGH),
        ({"authorised": Level.LOW}, {"authorised": None}, Level.HIGH),
        ({"authorised": Level.LOW}, {}, Level.HIGH),
        ({"authorised": Level.CRITICAL}, {"authorised": {"authorised": True}}, Level.HIGH),
        ({"documented": Level.MEDIUM}, {"documented": {"documented": True}}, Level.MEDIUM),
        (
            {"documented": Level.MEDIUM, "replaced": Level.INFORMATIONAL},
            {"documented": {"documented": True}, "replaced": BACK},
            Level.INFORMATIONAL,
        ),
        ({"replaced": Level.LOW}, {"replaced": BACK}, Level.LOW),
        ({"replaced": Level.LOW}, {"replaced": BACK | {"replaced": False}}, Level.HIGH),
        ({"replaced": Level.LOW}, {"replaced": BACK | {"same_role": False}}, Level.HIGH),
        ({"replaced": Level.LOW}, {"replaced": BACK | {"same_role": None}}, Level.HIGH),
        ({"replaced": Level.LOW}, {"replaced": BACK | {"same_principal": False}}, Level.HIGH),
        ({"replaced": Level.LOW}, {"replaced": BACK | {"same_principal": None}}, Level.LOW),
        ({"replaced": Level.LOW}, {"replaced": BACK | {"in_grace": False}}, Level.HIGH),
        ({"unused": Level.MEDIUM}, {"impact": UNUSED}, Level.MEDIUM),
        ({"unused": Level.MEDIUM}, {"impact": WIDE}, Level.HIGH),
        ({"unused": Level.MEDIUM}, {"impact": unknown("impact")}, Level.HIGH),
        ({"unused": Level.CRITICAL}, {"impact": UNUSED}, Level.HIGH),
        ({"unused": Level.MEDIUM, "authorised": Level.LOW}, {"impact": UNUSED, "authorised": {"authorised": True}}, Level.LOW),
        ({"wide": Level.CRITICAL}, {"impact": WIDE}, Level.CRITICAL),
        ({"wide": Level.CRITICAL}, {"impact": UNUSED}, Level.HIGH),
        ({"wide": Level.CRITICAL}, {"impact": {"wide": "yes"}}, Level.HIGH),
        ({"wide": Level.CRITICAL}, {"impact": unknown("impact")}, Level.HIGH),
        ({"wide": Level.LOW}, {"impact": WIDE}, Level.HIGH),
        ({"wide": Level.CRITICAL, "authorised": Level.LOW}, {"impact": WIDE, "authorised": {"authorised": True}}, Level.LOW),
        ({"wide": Level.CRITICAL, "authorised": Level.LOW}, {"impact": WIDE, "authorised": {"authorised": False}}, Level.CRITICAL),
        ({"wide": Level.CRITICAL, "documented": Level.HIGH}, {"impact": WIDE, "documented": {"documented": True}}, Level.HIGH),
        ({"wide": Level.CRITICAL}, {"impact": WIDE, "authorised": {"authorised": True}}, Level.CRITICAL),
    ],
)
def test_the_level_is_the_lowest_that_the_rule_has_for_what_is_known(level_when: Mapping[str, Level], facts: Any, level: Level) -> None:
    """Nothing unknown changes it, and a profile that came back without its role, by another hand or late did not come back.

    Wide use alone raises it, and only where nothing that the rule has a level for explains the finding.
    """
    assert found(finding(deletion(1), ruled(**level_when)), **facts).level is level


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("Client.DryRunOperation", Level.INFORMATIONAL),
        ("DryRunOperation", Level.INFORMATIONAL),
        ("Client.UnauthorizedOperation", Level.HIGH),
        ("Client.NoDryRunOperation", Level.HIGH),
        (None, Level.HIGH),
    ],
)
def test_a_dry_run_is_informational(code: str | None, level: Level) -> None:
    """EC2 was only asked and changed nothing. A try that it refused is none, dry or not."""
    assert found(finding(deletion(1, errorCode=code), ruled())).level is level


def test_a_rule_may_say_otherwise_of_a_dry_run() -> None:
    """Whoever watches for people trying out their rights gets the level that they wrote."""
    assert found(finding(deletion(1, errorCode="Client.DryRunOperation"), ruled(dry_run=Level.MEDIUM))).level is Level.MEDIUM


def test_a_correlation_is_a_dry_run_only_if_all_of_it_was() -> None:
    """A dry run as the last of several calls excuses none of those before it."""
    dry = [deletion(number, errorCode="Client.DryRunOperation") for number in range(2)]
    assert found(together(dry)).level is Level.INFORMATIONAL
    for records in itertools.permutations([*dry, deletion(2)]):
        assert found(together(records)).level is STORM.level


@given(
    st.sampled_from(Level),
    st.dictionaries(st.sampled_from(CIRCUMSTANCES), st.sampled_from(Level)),
    st.sets(st.sampled_from(CIRCUMSTANCES)),
)
def test_how_circumstances_combine(level: Level, level_when: dict[str, Level], holding: set[str]) -> None:
    """For any table: what explains a finding never raises it and the lowest counts; what makes it worse never lowers it, and only unexplained."""
    rule = Rule("r", "A rule", level, level_when=level_when)
    rows = {"dry-run": Level.INFORMATIONAL, **level_when}
    explaining = [rows[one].rank for one in holding - WORSE if one in rows]
    worse = [rows[one].rank for one in holding & WORSE if one in rows]
    found = rule.level_in(holding)
    if explaining:
        assert found.rank == min(level.rank, *explaining)
    else:
        assert found.rank == max([level.rank, *worse])
    assert rule.level_in(()) is level
    for one in CIRCUMSTANCES:
        if one not in WORSE:
            assert rule.level_in(holding | {one}).rank <= found.rank


def test_a_call_that_failed_reaches_nothing() -> None:
    """Whoever was refused at a widely used profile changed nothing by it."""
    refused = finding(deletion(1, errorCode="AccessDenied"), ruled(wide=Level.CRITICAL))
    assert found(refused, impact=WIDE).level is Level.HIGH


def test_the_last_profile_of_several_may_raise_but_not_lower() -> None:
    """What depends on the others is not known: that can only be more."""
    several = together([deletion(1), deletion(2)], ruled(wide=Level.CRITICAL, unused=Level.LOW))
    assert found(several, impact=WIDE).level is Level.CRITICAL
    assert found(several, impact=UNUSED).circumstances == ()


def test_one_profile_that_came_back_explains_no_correlation() -> None:
    """Of several deleted profiles only the last is looked after."""
    assert found(together([deletion(1), deletion(2)], ruled(replaced=Level.LOW)), replaced=BACK).circumstances == ()


def test_circumstances_are_told_in_a_fixed_order() -> None:
    """Whichever way the facts came in."""
    facts = {
        "impact": {"unused": True, "wide": True},
        "replaced": BACK,
        "documented": {"documented": True},
        "authorised": {"authorised": True},
    }
    told = (found(finding(deletion(1, errorCode=code)), **facts).circumstances for code in ("DryRunOperation", None))
    assert list(told) == [tuple(one for one in CIRCUMSTANCES if one not in without) for without in (["wide"], ["dry-run"])]


# The same from the log alone.

TERRAFORM = f"arn:aws:iam::{ACCOUNT}:role/terraform"
RULE = {
    "title": "Deleted",
    "logsource": {"product": "aws", "service": "cloudtrail"},
    "detection": {
        "selection": {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile", "errorCode": None},
        "condition": "selection",
    },
    "level": "high",
    "level_when": {"authorised": "low", "replaced": "low"},
}


def profile_call(second: int, name: str, profile: str = "web", identity: Mapping[str, Any] | None = None) -> Record:
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/terraform/apply"
    issuer = {"type": "Role", "arn": TERRAFORM, "userName": "terraform", "accountId": ACCOUNT}
    who = identity or {"type": "AssumedRole", "arn": session, "accountId": ACCOUNT, "sessionContext": {"sessionIssuer": issuer}}
    parameters = {"instanceProfileName": profile, "roleName": "web-role"}
    return deletion(second, eventName=name, eventID=f"{name}-{second}", userIdentity=who, requestParameters=parameters)


REPLACEMENT = [
    profile_call(1, "RemoveRoleFromInstanceProfile"),
    profile_call(2, "DeleteInstanceProfile"),
    profile_call(4, "CreateInstanceProfile"),
    profile_call(5, "AddRoleToInstanceProfile"),
]
LATER = ("CreateInstanceProfile", "AddRoleToInstanceProfile")
MALLORY = {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/mallory", "userName": "mallory", "accountId": ACCOUNT}


@pytest.mark.parametrize(
    ("records", "principals", "level", "circumstances"),
    [
        (REPLACEMENT, "", "low", ["replaced"]),
        (REPLACEMENT[:3], "", "high", []),
        ([*REPLACEMENT[:2], *(profile_call(2 + 901, name) for name in LATER)], "", "high", []),
        ([*REPLACEMENT[:2], *(profile_call(2 + 900, name) for name in LATER)], "", "low", ["replaced"]),
        (REPLACEMENT[:2], "", "high", []),
        (REPLACEMENT[:2], TERRAFORM, "low", ["authorised"]),
        (REPLACEMENT, TERRAFORM, "low", ["authorised", "replaced"]),
        (
            [
                *REPLACEMENT[:2],
                *(profile_call(at, name, identity=MALLORY) for at, name in ((4, "CreateInstanceProfile"), (5, "AddRoleToInstanceProfile"))),
            ],
            "",
            "high",
            [],
        ),
    ],
)
def test_the_honest_replacement_does_not_page_in_a_scan_either(tmp_path, monkeypatch, capsys, records, principals, level, circumstances):
    """From the log alone a profile that the same principal soon made again with its role is low; one that stays away or empty is high.

    Soon is within a quarter of an hour.
    """
    (tmp_path / "log.json").write_text(json.dumps({"Records": [dict(record.event) for record in records]}))
    (tmp_path / "rules.yml").write_text(json.dumps(RULE))
    monkeypatch.setenv("TRAILMEND_AUTHORIZED_PRINCIPALS", principals)
    assert cli.main(["scan", str(tmp_path / "log.json"), "--rules", str(tmp_path / "rules.yml"), "--format", "jsonl"]) == 0
    findings = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    (deleted,) = [one for one in findings if one["rule"]["title"] == "Deleted"]
    assert (deleted["level"], deleted["rule"]["level"], deleted["circumstances"]) == (level, "high", circumstances)
