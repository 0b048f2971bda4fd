"""What the log teaches about instance profiles, and how lives are put together from it."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.enrich.lives import lives
from worker.enrich.profile import INTEREST, events_of, fold
from worker.model import Origin, ProfileEvent, Record

START = datetime(2026, 1, 1, tzinfo=UTC)
SHORT = {
    "Create": "CreateInstanceProfile",
    "Delete": "DeleteInstanceProfile",
    "Add": "AddRoleToInstanceProfile",
    "Remove": "RemoveRoleFromInstanceProfile",
    "Tag": "TagInstanceProfile",
    "Untag": "UntagInstanceProfile",
}


def told(second: int, words: str, number: int = 0, by: str = "arn:aws:iam::111122223333:user/ann") -> ProfileEvent:
    """`told(3, "Add web-role")`, `told(3, "Tag team=ops")`, `told(3, "Untag team")`, `told(3, "Create /apps/")`."""
    verb, _, rest = words.partition(" ")
    detail: dict[str, Any] = {"actor": by, "principal": by}
    if verb in ("Add", "Remove"):
        detail["role"] = rest
    elif verb == "Tag":
        detail["tags"] = dict([rest.split("=")])
    elif verb == "Untag":
        detail["tag_keys"] = [rest]
    elif verb == "Create":
        detail |= {"path": rest or "/", "tags": {}, "id": f"AIPA{number}"}
    return ProfileEvent("111122223333", "web", START + timedelta(seconds=second), f"{number:04}-{words}", SHORT[verb], detail)


def record(name: str, parameters: Any, **more: Any) -> Record:
    event = {
        "eventName": name,
        "eventSource": "iam.amazonaws.com",
        "eventTime": "2026-01-02T03:04:05Z",
        "recipientAccountId": "111122223333",
        "userIdentity": {"arn": "arn:aws:sts::111122223333:assumed-role/deploy/run-7", "type": "AssumedRole"},
        "requestParameters": parameters,
        **more,
    }
    return Record(event, Origin(path="x"))


CREATED = {
    "instanceProfileName": "web",
    "tags": [{"key": "team", "value": "ops"}],
}
MADE = {"instanceProfile": {"path": "/apps/", "instanceProfileId": "AIPA1", "arn": "arn:aws:iam::111122223333:instance-profile/apps/web"}}


@pytest.mark.parametrize(
    ("name", "parameters", "more", "detail"),
    [
        (
            "CreateInstanceProfile",
            CREATED,
            {"responseElements": MADE},
            {"path": "/apps/", "tags": {"team": "ops"}, "id": "AIPA1", "arn": "arn:aws:iam::111122223333:instance-profile/apps/web"},
        ),
        ("CreateInstanceProfile", {"instanceProfileName": "web"}, {}, {"path": "/", "tags": {}}),
        ("AddRoleToInstanceProfile", {"instanceProfileName": "web", "roleName": "r"}, {}, {"role": "r"}),
        ("RemoveRoleFromInstanceProfile", {"instanceProfileName": "web", "roleName": "r"}, {}, {"role": "r"}),
        ("TagInstanceProfile", CREATED, {}, {"tags": {"team": "ops"}}),
        ("UntagInstanceProfile", {"instanceProfileName": "web", "tagKeys": ["team"]}, {}, {"tag_keys": ["team"]}),
        ("DeleteInstanceProfile", {"instanceProfileName": "web"}, {}, {}),
    ],
)
def test_a_successful_call_teaches_what_it_did_and_who_did_it(name: str, parameters: Any, more: Any, detail: Any) -> None:
    """Each of the six calls teaches its own detail and the caller."""
    (event,) = events_of(record(name, parameters, **more))
    who = "arn:aws:sts::111122223333:assumed-role/deploy/run-7"
    assert (event.account, event.profile, event.kind) == ("111122223333", "web", name)
    assert event.detail == {"actor": who, "principal": who, **detail}
    json.dumps(event.detail)


@pytest.mark.parametrize(
    "silent",
    [
        record("DeleteInstanceProfile", {"instanceProfileName": "web"}, errorCode="DeleteConflictException"),
        record("DeleteInstanceProfile", {"instanceProfileName": "web"}, eventSource="dms.amazonaws.com"),
        record("DeleteInstanceProfile", None),
        record("DeleteInstanceProfile", {"instanceProfileName": ["web"]}),
        record("DeleteInstanceProfile", {"instanceProfileName": "*"}),
        record("DeleteInstanceProfile", {"instanceProfileName": "w" * 129}),
        record("DeleteInstanceProfile", {"instanceProfileName": "web"}, recipientAccountId="../../etc"),
        record("DeleteInstanceProfile", {"instanceProfileName": "web"}, eventTime="yesterday"),
        record("AddRoleToInstanceProfile", {"instanceProfileName": "web", "roleName": 7}),
        record("GetInstanceProfile", {"instanceProfileName": "web"}),
    ],
)
def test_what_failed_or_makes_no_sense_teaches_nothing(silent: Record) -> None:
    """Refused calls, other services, and values of the wrong type or beyond IAM's limits."""
    assert events_of(silent) == ()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=9)  # fmt: skip


@given(st.sampled_from(sorted(SHORT.values())), st.dictionaries(st.sampled_from(["tags", "tagKeys", "roleName", "path"]), JSON), JSON, JSON)
def test_no_record_can_make_it_raise(name: str, parameters: dict[str, Any], made: Any, who: Any) -> None:
    """Whatever type a member has, reading and folding answer."""
    parameters["instanceProfileName"] = "web"
    events = events_of(record(name, parameters, responseElements={"instanceProfile": made}, userIdentity=who))
    json.dumps([dict(event.detail) for event in events])
    fold(events, START).as_value()


def test_the_reader_is_told_which_records_are_wanted() -> None:
    """Its interest is exactly the six calls in IAM, and the five in EC2 that tell which instance uses which profile."""
    assert all(INTEREST.wants("iam.amazonaws.com", name) for name in SHORT.values())
    ec2 = {"RunInstances", "TerminateInstances", "AssociateIamInstanceProfile", "DisassociateIamInstanceProfile"}
    ec2.add("ReplaceIamInstanceProfileAssociation")
    assert len(INTEREST.pairs) == 11
    assert all(INTEREST.wants("ec2.amazonaws.com", name) for name in ec2)
    assert not INTEREST.wants("dms.amazonaws.com", "DeleteInstanceProfile")
    assert not INTEREST.wants("iam.amazonaws.com", "GetInstanceProfile")


def test_a_deleted_profile_is_remembered_with_role_path_and_tags() -> None:
    """All that is needed to make it again, and who took it down."""
    words = ["Create /apps/", "Add web-role", "Tag team=ops", "Tag stage=prod", "Untag team"]
    events = [told(n, each, n) for n, each in enumerate(words)]
    events += [told(60, "Remove web-role", 8, by="arn:eve"), told(61, "Delete", 9, by="arn:eve")]
    value = fold(events, START + timedelta(seconds=61)).as_value()
    assert (value["exists"], value["path"], value["tags"], value["complete"]) == (False, "/apps/", {"stage": "prod"}, True)
    assert (value["roles"], value["last_role"]) == (
        [],
        {"name": "web-role", "removed_at": "2026-01-01T00:01:00Z", "removed_by": "arn:eve"},
    )
    assert value["deleted"] == {"at": "2026-01-01T00:01:01Z", "by": "arn:eve", "principal": "arn:eve"}
    assert value["recreated"] is None


def test_a_replacement_within_one_second_is_a_new_life_after_the_old() -> None:
    """Remove, delete, create and add in one second: the delete's life is the old one, and the new one follows it."""
    before = [told(0, "Create /old/", 1), told(1, "Add web-role", 2)]
    swap = [told(50, each, 3 + n) for n, each in enumerate(["Remove web-role", "Delete", "Create /new/", "Add web-role", "Tag team=ops"])]
    memory = fold([*swap, *before], START + timedelta(seconds=50))
    assert memory.life is not None
    assert memory.life.path == "/old/"
    assert memory.as_value()["last_role"]["name"] == "web-role"
    assert memory.as_value()["recreated"]["roles"] == ["web-role"]
    now = fold([*swap, *before], None)
    assert now.life is not None
    assert (now.life.path, now.life.role, now.life.tags) == ("/new/", "web-role", {"team": "ops"})


def test_a_whole_life_within_one_second_ends_deleted() -> None:
    """The same kinds of event, where the profile was known not to exist: created first, deleted last."""
    before = [told(0, "Create", 1), told(9, "Delete", 2)]
    life = [told(50, each, 3 + n) for n, each in enumerate(["Create /b/", "Add r", "Remove r", "Delete"])]
    value = fold([*life, *before], None).as_value()
    assert (value["exists"], value["path"], value["last_role"]["name"]) == (False, "/b/", "r")


def test_a_second_whose_past_is_unknown_is_read_as_a_replacement() -> None:
    """Daily business before rarity: where nothing was remembered, delete and create in one second leave a profile."""
    both = [told(50, "Create", 1), told(50, "Delete", 2)]
    assert fold(both, START + timedelta(seconds=50)).as_value()["recreated"] is not None
    assert fold(both, None).as_value()["exists"] is True


def test_a_trail_with_gaps_still_tells_what_it_saw() -> None:
    """A role added and nothing else: the role is known, the path is not, and the memory says it is incomplete."""
    value = fold([told(5, "Add r", 1), told(9, "Delete", 2)], None).as_value()
    assert (value["last_role"]["name"], value["last_role"]["removed_at"]) == ("r", None)
    assert (value["path"], value["tags"], value["complete"]) == (None, None, False)
    assert fold([], None).as_value() == {}


def seen(second: float, number: int, **detail: Any) -> ProfileEvent:
    """`seen(3.5, 1, role="r")`: a snapshot of the profile; without detail it was missing."""
    whole = {"id": "AIPA0", "arn": "arn:x", "path": "/", "created": "2025-06-01T00:00:00+00:00", **detail}
    kind, detail = ("Snapshot", whole) if detail else ("Missing", {})
    return ProfileEvent("111122223333", "web", START + timedelta(seconds=second), f"snapshot-{number}", kind, detail)


def test_a_snapshot_tells_of_a_profile_from_before_the_log() -> None:
    """Role, path and tags, each with the moment of the snapshot, and when it was made; a later delete finds all of it."""
    events = [seen(0.5, 1, role="r", tags={"team": "ops"}), told(600, "Remove r", 2), told(601, "Delete", 3)]
    value = fold(events, START + timedelta(seconds=601)).as_value()
    assert (value["last_role"]["name"], value["path"], value["tags"], value["complete"]) == ("r", "/", {"team": "ops"}, True)
    assert value["learnt_at"] == dict.fromkeys(("path", "role", "tags"), "2026-01-01T00:00:00.500000Z")
    assert value["created"] == {"at": "2025-06-01T00:00:00Z", "by": None, "principal": None}


def test_each_thing_is_told_with_the_moment_it_was_learnt() -> None:
    """Path at the creation, the role when it was added, tags when they were last changed; a snapshot of the same changes none of it."""
    events = [told(0, "Create"), told(3, "Add r", 1), told(9, "Tag team=ops", 2), seen(900, 3, role="r", tags={"team": "ops"})]
    value = fold([*events, told(1000, "Remove r", 4)], None).as_value()
    assert value["learnt_at"] == {"path": "2026-01-01T00:00:00Z", "role": "2026-01-01T00:00:03Z", "tags": "2026-01-01T00:00:09Z"}


def test_a_profile_missing_from_a_snapshot_was_deleted_by_then() -> None:
    """By nobody known; its own late record takes over, and a profile of another id is another life."""
    before = [told(0, "Create"), seen(400, 1, role=None)]
    gone = fold([*before, seen(4000, 2)], None).as_value()
    assert (gone["exists"], gone["deleted"]) == (False, {"at": "2026-01-01T01:06:40Z", "by": None, "principal": None})
    late = fold([*before, seen(4000, 2), told(2000, "Delete", 3)], None).as_value()
    assert late["deleted"]["by"] == "arn:aws:iam::111122223333:user/ann"
    other = fold([*before, seen(4000, 2, id="AIPA9", role="s")], START).as_value()
    assert (other["id"], other["exists"], other["recreated"]) == ("AIPA0", False, None)


@pytest.mark.parametrize(("second", "role"), [(100, "s"), (279, "s"), (281, "r"), (400, "r")])
def test_what_the_log_tells_from_just_before_a_listing_counts_for_more(second: int, role: str) -> None:
    """A listing may be behind: of a role changed in the three minutes before its end the log has it, later the listing."""
    events = [told(0, "Create"), told(99, "Remove r", 1), told(100, "Add s", 2), seen(second, 3, role="r")]
    life = fold(events, None).life
    assert life is not None
    assert life.role == role


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[ProfileEvent], str | None, bool]:
    """What IAM let happen to a profile from its first creation, several things a second; with the true role and existence at the end."""
    exists, role, second, together = False, None, 0, 0
    events: list[ProfileEvent] = []
    for number in range(draw(st.integers(0, 14))):
        wait = draw(st.integers(0, 1)) if together < 5 else 1
        second, together = second + wait, 0 if wait else together + 1
        allowed = (
            ["Create"] if not exists else [f"Remove {role}", "Tag a=b"] if role else ["Add r", "Add s", "Delete", "Tag a=b", "Untag a"]
        )
        words = draw(st.sampled_from(allowed))
        exists = {"Create": True, "Delete": False}.get(words, exists)
        role = words[4:] if words.startswith("Add") else None if words.startswith("Remove") else role
        events.append(told(second, words, number))
    return events, role, exists


@given(histories(), st.data())
def test_order_and_repetition_of_delivery_make_no_difference(history: tuple[list[ProfileEvent], str | None, bool], data: Any) -> None:
    """Shuffled and doubled, the same events tell the same lives."""
    events, _, _ = history
    jumbled = data.draw(st.permutations([*events, *data.draw(st.lists(st.sampled_from(events)) if events else st.just([]))]))
    assert list(lives(jumbled)) == list(lives(events))
    at = START + timedelta(seconds=data.draw(st.integers(0, 9)))
    assert fold(jumbled, at) == fold(events, at)


@given(histories(), st.randoms(use_true_random=False))
def test_seconds_shared_by_several_events_still_end_in_the_truth(history: tuple[list[ProfileEvent], str | None, bool], random: Any) -> None:
    """From a known start, whatever happened within the same seconds: existence and role at the end are the true ones."""
    events, role, exists = history
    events += [told(-9, "Create", 100), told(-8, "Delete", 101)]
    random.shuffle(events)
    last = fold(events, None).life
    assert last is not None
    assert ((last.deleted is None), last.role) == (exists, role)


def test_many_events_in_one_second_stay_cheap_and_ordered() -> None:
    """An attacker can pile up calls in a second; above the bound the fixed order is taken, the same for any delivery."""
    pile = [told(1, f"Tag k{n}=v", n) for n in range(500)]
    assert fold(pile, None) == fold(reversed(pile), None)
    assert len(fold(pile, None).as_value()["tags"]) == 500


def test_three_real_chains_are_told_from_the_log_alone(shared_data: Path) -> None:
    """Stratus Red Team's three profiles, made and deleted by Terraform: role, tags, id and who, with no AWS to ask."""
    events: list[ProfileEvent] = []
    for path in sorted((shared_data / "cloudtrail" / "invictus").rglob("*.gz")):
        for event in json.loads(gzip.decompress(path.read_bytes()))["Records"]:
            events += events_of(Record(event, Origin(path=str(path))))
    names = {event.profile: event.time for event in events if event.kind == "DeleteInstanceProfile"}
    assert len(names) == 3
    for name, deleted_at in names.items():
        value = fold([event for event in events if event.profile == name], deleted_at).as_value()
        assert value["last_role"]["name"] == name.removesuffix("-instance") + "-role"
        assert value["last_role"]["removed_by"] == value["deleted"]["by"] == "arn:aws:iam::123837392027:user/bert-jan"
        assert (value["path"], value["tags"], value["complete"]) == ("/", {"StratusRedTeam": "true"}, True)
        assert (value["exists"], value["roles"], value["recreated"]) == (False, [], None)
        assert value["id"].startswith("AIPA")
