"""The story: the same for the same seed, in the shapes of real CloudTrail, and with everything in it that the demo claims to show."""

import gzip
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.local.delivery import Delivery, deliver
from worker.local.records import api_call, aws_service, create_date
from worker.local.story import BATCH_ACCOUNT, CHANGE, FLEET, USER, WEB_ACCOUNT, Cast, Instance, Story, tell

NOW = datetime(2026, 7, 7, 14, 2, 33, 456_000, tzinfo=UTC)
CAST = Cast(
    user_id="AIDAEXAMPLEEXAMPLE01",
    new_key_id="AKIAEXAMPLEEXAMPLE02",
    fleet_role_id="AROAEXAMPLEEXAMPLE01",
    fleet_profile_id="AIPAEXAMPLEEXAMPLE01",
    fleet=(Instance("i-0aaaaaaaaaaaaaaa1", "us-east-1", "web-1"), Instance("i-0aaaaaaaaaaaaaaa2", "eu-west-1", "web-2")),
    deployer_role_id="AROAEXAMPLEEXAMPLE02",
    batch_role_id="AROAEXAMPLEEXAMPLE03",
    batch_profile_id="AIPAEXAMPLEEXAMPLE02",
    new_batch_profile_id="AIPAEXAMPLEEXAMPLE03",
)
KEY = re.compile(
    r"AWSLogs/(?P<account>\d{12})/CloudTrail/(?P<region>[a-z0-9-]+)/(?P<day>\d{4}/\d{2}/\d{2})/"
    r"(?P=account)_CloudTrail_(?P=region)_(?P<time>\d{8}T\d{4}Z)_[A-Za-z0-9]{16}\.json\.gz"
)


def story(seed: int = 1) -> Story:
    return tell(seed, NOW, CAST)


def logs(delivery: Delivery) -> dict[str, list[dict[str, Any]]]:
    """The records of each log object, by key."""
    return {one.key: json.loads(gzip.decompress(one.body))["Records"] for one in delivery.objects if "/CloudTrail/" in one.key and one.body}


def records(told: Story) -> list[dict[str, Any]]:
    return [record for part in (told.past, told.present) for batch in logs(part).values() for record in batch]


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_same_seed_tells_same_story(seed):
    """A story is the same to the byte for a seed, a moment and a cast, and another for another seed."""
    assert story(seed) == story(seed)
    assert story(seed).present != story(seed + 1).present


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_records_have_the_types_of_real_ones(seed):
    """Every member has the type it has in original objects, whatever the seed; success has no error code and no null one."""
    for record in records(story(seed)):
        identity = record["userIdentity"]
        assert list(record)[:3] == ["eventVersion", "userIdentity", "eventTime"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["eventTime"])
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", record["eventID"])
        assert record["eventSource"].endswith(".amazonaws.com")
        assert isinstance(record["readOnly"], bool)
        assert isinstance(record["requestParameters"], dict | None)
        assert isinstance(record["responseElements"], dict | None)
        assert all(isinstance(record[name], str) for name in ("errorCode", "errorMessage") if name in record)
        assert record["recipientAccountId"] in (WEB_ACCOUNT, BATCH_ACCOUNT)
        if identity["type"] == "AssumedRole":
            assert "userName" not in identity
            assert identity["sessionContext"]["attributes"]["mfaAuthenticated"] in ("true", "false")
            assert identity["principalId"].split(":")[0] == identity["sessionContext"]["sessionIssuer"]["principalId"]
        if record["eventSource"] == "iam.amazonaws.com":
            assert record["awsRegion"] == "us-east-1"
        if record.get("errorCode") == "AccessDenied":
            assert record["requestParameters"] is None


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_objects_lie_where_cloudtrail_puts_them(seed):
    """Keys name account, region and time, are unique, and hold only records of that account and region, from before that time."""
    told = story(seed)
    assert len({one.key for part in (told.past, told.present) for one in part.objects}) == sum(
        len(part.objects) for part in (told.past, told.present)
    )
    for part in (told.past, told.present):
        assert len(logs(part)) == part.logs
        assert sum(map(len, logs(part).values())) == part.records
        for key, batch in logs(part).items():
            name = KEY.fullmatch(key)
            assert name is not None, key
            at = datetime.strptime(name["time"], "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
            assert at.strftime("%Y/%m/%d") == name["day"]
            for record in batch:
                assert (record["recipientAccountId"], record["awsRegion"]) == (name["account"], name["region"])
                assert datetime.fromisoformat(record["eventTime"]) < at


def test_trail_is_as_small_and_repetitive_as_real_ones():
    """Some 40 objects of two accounts with a median of about 6 records; over a fifth of the events come twice; some objects are no log."""
    told = story()
    sizes = [len(batch) for batch in logs(told.present).values()]
    assert 30 <= len(sizes) <= 80
    assert 4 <= median(sizes) <= 9
    counts = Counter(record["eventID"] for record in records(told))
    again = [count for count in counts.values() if count > 1]
    assert len(again) >= 0.2 * len(counts)
    assert sum(count - 1 for count in again) == told.past.copies + told.present.copies
    odd = [one for one in told.present.objects if not KEY.fullmatch(one.key)]
    assert sorted(bool(one.body) for one in odd) == [False, True]


def test_attack_is_told_in_order():
    """The chain is there event by event: sign-in without MFA, key, refused try, failed try, role taken out, profile deleted."""
    told = story()
    by_id = {record["eventID"]: record for record in records(told)}
    chain = [by_id[scene.event_id] for scene in told.told.attack]
    assert [(record["eventName"], record.get("errorCode")) for record in chain] == [
        ("ConsoleLogin", None),
        ("CreateAccessKey", None),
        ("DeleteInstanceProfile", "AccessDenied"),
        ("DeleteInstanceProfile", "DeleteConflict"),
        ("RemoveRoleFromInstanceProfile", None),
        ("DeleteInstanceProfile", None),
    ]
    assert [record["eventTime"] for record in chain] == sorted(record["eventTime"] for record in chain)
    assert chain[0]["additionalEventData"]["MFAUsed"] == "No"
    assert {record["userIdentity"]["userName"] for record in chain} == {USER}
    assert chain[-1]["userIdentity"]["accessKeyId"] == chain[1]["responseElements"]["accessKey"]["accessKeyId"] == CAST.new_key_id
    assert told.told.deed == told.told.attack[-1]
    assert all(NOW - timedelta(hours=1) < datetime.fromisoformat(record["eventTime"]) < NOW for record in chain)


def test_role_is_taken_out_and_profile_deleted_in_one_object():
    """A burst of one hand is never cut apart by the delivery, whatever the seed: the honest replacement comes whole as well."""
    for seed in range(30):
        told = story(seed)
        batches = [{record["eventID"] for record in batch} for batch in logs(told.present).values()]
        assert any({scene.event_id for scene in told.told.attack[-2:]} <= batch for batch in batches)
        honest = [
            record
            for batch in logs(told.present).values()
            for record in batch
            if not record["readOnly"] and f"/{CHANGE}" in record["userIdentity"].get("arn", "")
        ]
        ids = {record["eventID"] for record in honest}
        assert len(ids) == 5
        assert any(ids <= batch for batch in batches)


def test_past_is_what_memory_needs():
    """The profile's making, its role and tags, and the instances that use it, all lie weeks before the attack."""
    told = story()
    past = [record for batch in logs(told.past).values() for record in batch]
    assert max(datetime.fromisoformat(record["eventTime"]) for record in past) < NOW - timedelta(days=20)
    about_fleet = {
        record["eventName"]
        for record in past
        if (record["requestParameters"] or {}).get("instanceProfileName") == FLEET and not record["readOnly"]
    }
    assert about_fleet == {"CreateInstanceProfile", "AddRoleToInstanceProfile", "TagInstanceProfile"}
    started = {
        record["responseElements"]["instancesSet"]["items"][0]["instanceId"] for record in past if record["eventName"] == "RunInstances"
    }
    assert started == {instance.id for instance in CAST.fleet}


def test_background_changes_nothing():
    """Nobody but the attacker and the deployers calls anything that IAM would have to undo."""
    named = {"ConsoleLogin", "CreateAccessKey", "DeleteInstanceProfile", "RemoveRoleFromInstanceProfile"}
    named |= {"CreateInstanceProfile", "AddRoleToInstanceProfile", "TagInstanceProfile", "RunInstances"}
    writes = {record["eventName"] for record in records(story()) if not record["readOnly"]}
    assert writes - named == {"UpdateInstanceInformation"}


@given(st.datetimes(datetime(2013, 11, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_create_date_reads_back(moment):
    """IAM's date format, with its hour of a twelve-hour clock, tells the moment to the second."""
    assert datetime.strptime(create_date(moment), "%b %d, %Y %I:%M:%S %p").replace(tzinfo=UTC) == moment.replace(microsecond=0)


@given(st.integers(), st.lists(st.integers(0, 86_400), max_size=60))
def test_delivery_loses_nothing(seed, seconds):
    """Every record is delivered once or twice, none more often and none not at all, and the counts tell so."""
    dice = Random(seed)
    caller = aws_service(WEB_ACCOUNT, "config.amazonaws.com")
    sent = [api_call(dice, caller, NOW + timedelta(seconds=second), "s3", "GetBucketAcl", {}, read_only=True) for second in seconds]
    delivery = deliver(dice, sent)
    got = Counter(record["eventID"] for batch in logs(delivery).values() for record in batch)
    assert set(got) == {record["eventID"] for record in sent}
    assert set(got.values()) <= {1, 2}
    assert (delivery.records, delivery.copies) == (got.total(), got.total() - len(sent))
