"""A message's body tells what to read, whichever way the notification came."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ingest.notices import read, skip_reason
from worker.model import Notice

LOG = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/23/111122223333_CloudTrail_us-east-1_20261123T1200Z_abc.json.gz"


def s3(key=LOG, name="ObjectCreated:Put", **more):
    held = {"key": key, "size": 512, "eTag": "0", "sequencer": "1", **more}
    return {"eventSource": "aws:s3", "awsRegion": "eu-west-1", "eventName": name, "s3": {"bucket": {"name": "logs"}, "object": held}}


def sns(inner):
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:us-east-1:111122223333:t", "Message": inner}


def eventbridge(kind="Object Created", source="aws.s3", detail=None):
    detail = detail or {"bucket": {"name": "logs"}, "object": {"key": LOG, "size": 512}}
    return {"version": "0", "detail-type": kind, "source": source, "region": "eu-west-1", "detail": detail}


CLOUDTRAIL = {"s3Bucket": "logs", "s3ObjectKey": [LOG]}
DIRECT = {"Records": [s3()]}
RECORD = {"eventName": "DeleteInstanceProfile", "eventSource": "iam.amazonaws.com"}


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (DIRECT, "s3"),
        (sns(json.dumps(DIRECT)), "s3"),
        (CLOUDTRAIL, "cloudtrail"),
        (sns(json.dumps(CLOUDTRAIL)), "cloudtrail"),
        (eventbridge(), "s3-eventbridge"),
        (sns(json.dumps(eventbridge())), "s3-eventbridge"),
    ],
)
def test_every_shape_names_the_object(body, shape):
    """S3 direct, through SNS enveloped or raw, CloudTrail's own notice and EventBridge all lead to the same object."""
    reading = read(json.dumps(body))
    assert reading.shape == shape
    assert [(notice.bucket, notice.key) for notice in reading.notices] == [("logs", LOG)]
    assert reading.faults == ()


def test_an_api_call_by_eventbridge_carries_its_record():
    """An EventBridge event of CloudTrail is the record itself."""
    reading = read(json.dumps(eventbridge("AWS API Call via CloudTrail", "aws.iam", RECORD)))
    assert reading.events == (RECORD,)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"}, "test-event"),
        (sns(json.dumps({"Event": "s3:TestEvent"})), "test-event"),
        (sns("CloudTrail validation message."), "test-event"),
        ({"Records": [s3(name="ObjectRemoved:Delete")]}, "not-created"),
        (eventbridge("Object Deleted"), "not-created"),
        (eventbridge("AWS Insight via CloudTrail", "aws.cloudtrail", {"eventType": "AwsCloudTrailInsight"}), "insight"),
        ({"Records": [s3(LOG.replace("/CloudTrail/", "/CloudTrail-Digest/"))]}, "digest"),
        ({"Records": [s3(LOG.replace("/CloudTrail/", "/CloudTrail-Insight/"))]}, "insight"),
        ({"Records": [s3("AWSLogs/111122223333/", size=0)]}, "folder"),
        ({"Records": [s3(LOG.replace("/CloudTrail/", "/Config/"))]}, "other-service"),
    ],
)
def test_what_is_no_log_is_passed_over(body, reason):
    """Test events, digests, insights, folder markers and other services' objects are skipped, with the reason, and are no fault."""
    reading = read(json.dumps(body))
    assert (reading.skipped, reading.notices, reading.faults) == ((reason,), (), ())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not JSON", "notice-not-json"),
        ("", "notice-not-json"),
        ("[1]", "notice-unknown"),
        ('{"hello": 1}', "notice-unknown"),
        ('{"Records": 3}', "notice-malformed"),
        ('{"Records": []}', "notice-malformed"),
        ('{"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {}, "object": {"key": 3}}}]}', "notice-malformed"),
        ('{"Records": [{"eventName": "DeleteInstanceProfile"}]}', "notice-unknown"),
        (json.dumps(CLOUDTRAIL | {"s3Bucket": 3}), "notice-malformed"),
        (json.dumps(eventbridge("EC2 Instance State-change Notification", "aws.ec2")), "notice-unknown"),
        (json.dumps(eventbridge(detail=[1])), "notice-malformed"),
        (json.dumps(sns("x") | {"Type": "SubscriptionConfirmation"}), "sns-confirmation"),
    ],
)
def test_what_is_not_understood_is_a_fault_that_says_so(body, reason):
    """A body of no known shape is a fault of its own kind, never an empty success."""
    reading = read(body)
    assert [fault.reason for fault in reading.faults] == [reason]
    assert reading.faults[0].detail


def test_keys_from_s3_are_decoded_and_others_are_not():
    """S3 encodes keys as in a URL with + for a space; EventBridge and CloudTrail do not."""
    assert read(json.dumps({"Records": [s3("a+b%2Bc%C3%A9.gz")]})).notices[0].key == "a b+cé.gz"
    as_is = eventbridge(detail={"bucket": {"name": "logs"}, "object": {"key": "a+b%2B.gz"}})
    assert read(json.dumps(as_is)).notices[0].key == "a+b%2B.gz"
    assert read(json.dumps({"s3Bucket": "logs", "s3ObjectKey": ["a+b%2B.gz"]})).notices[0].key == "a+b%2B.gz"


def test_a_bad_entry_spoils_only_itself():
    """Of several records in one message the good ones are read, the bad one is a fault."""
    reading = read(json.dumps({"Records": [s3("one.json.gz"), {"no": "s3"}, s3("two.json.gz", versionId="v1")]}))
    assert reading.notices == (
        Notice("logs", "one.json.gz", "eu-west-1", None, 512),
        Notice("logs", "two.json.gz", "eu-west-1", "v1", 512),
    )
    assert [fault.reason for fault in reading.faults] == ["notice-unknown"]


def test_envelopes_end_somewhere():
    """SNS in SNS is read; a message of nothing but envelopes is refused."""
    body = json.dumps(DIRECT)
    for _ in range(3):
        body = json.dumps(sns(body))
    assert len(read(body).notices) == 1
    for _ in range(3):
        body = json.dumps(sns(body))
    assert [fault.reason for fault in read(body).faults] == ["notice-unknown"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (LOG, None),
        (f"prefix/{LOG}", None),
        (f"o-abc123/{LOG}", None),
        (LOG.replace("AWSLogs/", "AWSLogs/o-abc123/"), None),
        (LOG.replace("AWSLogs/", "AWSLogs/o-abc123/").replace("/CloudTrail/", "/CloudTrail-Digest/"), "digest"),
        ("copied/elsewhere.json", None),
        ("AWSLogs/111122223333/elasticloadbalancing/us-east-1/x.log.gz", "other-service"),
        ("backup_$folder$", "folder"),
        ("AWSLogs/111122223333/us-east-1/2026/11/23/copied.json.gz", None),
        (f"AWSLogs/111122223333/elasticloadbalancing/{LOG}", None),
    ],
)
def test_keys_tell_logs_from_the_rest(key, reason):
    """Organisation trails and Control Tower have longer prefixes, and their logs are logs all the same."""
    assert skip_reason(key) == reason


def test_a_message_does_not_choose_the_host():
    """A region that is none is forgotten: it would become part of the name that our signature is sent to."""
    for region in ("evil.example/", "localhost@127.0.0.1:9/", "", 3, "us-east-1.evil.example"):
        assert read(json.dumps({"Records": [s3() | {"awsRegion": region}]})).notices[0].region is None
    assert read(json.dumps({"Records": [s3()]})).notices[0].region == "eu-west-1"


def test_a_message_does_not_name_objects_without_end():
    """Each object is a request to S3; a message of thousands is refused."""
    keys = [f"{number}.json" for number in range(1001)]
    assert [fault.reason for fault in read(json.dumps({"s3Bucket": "logs", "s3ObjectKey": keys})).faults] == ["notice-malformed"]


def test_a_lone_surrogate_hides_no_inline_record():
    """A caller who writes one into a user agent is read through EventBridge too."""
    body = json.dumps(eventbridge("AWS API Call via CloudTrail", "aws.iam", RECORD | {"userAgent": "\ud800"}))
    assert read(body).events[0]["eventName"] == "DeleteInstanceProfile"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = st.sampled_from(
    [
        "Records",
        "s3",
        "bucket",
        "object",
        "key",
        "name",
        "Message",
        "Type",
        "detail",
        "detail-type",
        "source",
        "s3Bucket",
        "s3ObjectKey",
        "TopicArn",
        "eventName",
        "size",
    ]
)


@given(st.recursive(JSON, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=6), max_leaves=30))
def test_nothing_makes_the_reader_raise(value):
    """Whatever JSON a message holds, the answer names objects, records, skips or faults, and is never empty."""
    reading = read(json.dumps(value))
    assert reading.notices or reading.events or reading.skipped or reading.faults


@given(st.text())
def test_nor_does_text(body):
    """Nor does anything that is no JSON at all."""
    reading = read(body)
    assert reading.notices or reading.events or reading.skipped or reading.faults
