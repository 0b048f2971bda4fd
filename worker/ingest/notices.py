"""From a message's body to what there is to read: pure, every notification shape, told apart by its own form.

In comes the body of one SQS message, out goes a `Reading`: the objects it names, the CloudTrail records it carries inline, what was passed
over on purpose and what could not be understood. It never raises. Unknown members are normal; a malformed entry spoils only itself.

| shape | where it is told |
|---|---|
| s3 | https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html (keys URL-encoded, `+` for space) |
| s3-test | the same page: sent once when notifications are set up |
| sns | https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html: any other shape as a string in `Message` |
| s3-eventbridge | https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html (keys as they are) |
| cloudtrail | https://docs.aws.amazon.com/awscloudtrail/latest/userguide/configure-sns-notifications-for-cloudtrail.html |
| api-call | https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html: the record itself, in `detail` |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from worker.ingest.wrappers import loads
from worker.model import Fault, Notice

MOST_ENVELOPES = 4
"""SNS in SNS in EventBridge is possible; deeper is somebody's joke."""

CLOUDTRAIL_GREETING = "CloudTrail validation message."
"""What CloudTrail publishes when a topic is set on a trail."""

MOST_OBJECTS = 1_000
"""Objects that one message may name: each is a request to S3. S3 names one, CloudTrail some."""

REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}", re.ASCII)
"""A region becomes part of a host's name, so nothing else will do."""

_SERVICE = re.compile(r"(?:^|/)AWSLogs/(?:o-[^/]+/)?[0-9]{12}/([^/]+)(?=/)")

OTHER_SERVICES = frozenset(
    {
        "config", "elasticloadbalancing", "vpcflowlogs", "vpcdnsquerylogs", "waflogs", "guardduty", "redshift", "network-firewall",
        "s3serveraccesslogs", "transitgatewayflowlogs", "verifiedaccess", "vpc-lattice",
    }
)  # fmt: skip
"""Folders of services that write beside CloudTrail. Any other is tried: better a fault that is seen than a log passed over."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one message asks us to read. `shape` names the innermost notification; `events` are inline CloudTrail records."""

    shape: str
    notices: tuple[Notice, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    skipped: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def read(body: str) -> Reading:
    """Tell what a message asks us to read."""
    return _read(body, MOST_ENVELOPES)


def skip_reason(key: str) -> str | None:
    """Why an object with this key is no log file (digest, insight, folder, other-service), or None when it may be one.

    Key layout: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html; an organisation's
    trail and Control Tower put more in front of it and between.
    """
    segments = key.split("/")
    if "CloudTrail-Digest" in segments:
        return "digest"
    if "CloudTrail-Insight" in segments:
        return "insight"
    if key.endswith(("/", "_$folder$")):
        return "folder"
    if OTHER_SERVICES.isdisjoint(key.lower().split("/")):
        return None
    services = _SERVICE.findall(key)
    return "other-service" if services and services[-1].lower() in OTHER_SERVICES else None


def _read(body: str, envelopes: int) -> Reading:
    if body.strip() == CLOUDTRAIL_GREETING:
        return Reading("cloudtrail-test", skipped=("test-event",))
    try:
        told = loads(body.encode(errors="replace"))
    except json.JSONDecodeError as error:
        return _fault("unknown", "notice-not-json", f"the message's body is not JSON: {error}; it begins with {body[:80]!r}")
    if not isinstance(told, dict):
        return _fault("unknown", "notice-unknown", f"the message's body is a JSON {type(told).__name__}, not an object")
    if told.get("Event") == "s3:TestEvent":
        return Reading("s3-test", skipped=("test-event",))
    if isinstance(told.get("Message"), str) and ("TopicArn" in told or told.get("Type") == "Notification"):
        return _from_sns(told, envelopes)
    if "s3Bucket" in told and "s3ObjectKey" in told:
        return _from_cloudtrail(told)
    if "detail-type" in told and "source" in told:
        return _from_eventbridge(told)
    if "Records" in told:
        return _from_s3(told["Records"])
    return _fault("unknown", "notice-unknown", f"no notification that we know has the members {[name[:64] for name in list(told)[:12]]}")


def _from_sns(told: Mapping[str, Any], envelopes: int) -> Reading:
    if told.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        topic = told.get("TopicArn")
        return _fault(
            "sns", "sns-confirmation", f"{told['Type']} from {topic}: visit its SubscribeURL, or subscribe the queue from its own account"
        )
    if envelopes == 0:
        return _fault("sns", "notice-unknown", f"more than {MOST_ENVELOPES} envelopes in one another")
    return _read(told["Message"], envelopes - 1)


def _from_cloudtrail(told: Mapping[str, Any]) -> Reading:
    bucket, keys = told["s3Bucket"], told["s3ObjectKey"]
    if isinstance(keys, str):
        keys = [keys]
    if not isinstance(bucket, str) or not isinstance(keys, list):
        return _fault("cloudtrail", "notice-malformed", "s3Bucket is no string or s3ObjectKey no list")
    return _gather("cloudtrail", [_object(bucket, key) for key in keys])


def _from_eventbridge(told: Mapping[str, Any]) -> Reading:
    kind, detail = told["detail-type"], told.get("detail")
    if not isinstance(detail, dict):
        return _fault("eventbridge", "notice-malformed", f"the detail of an EventBridge event of type {kind!r} is no object")
    if told["source"] == "aws.s3":
        if kind != "Object Created":
            return Reading("s3-eventbridge", skipped=("not-created",))
        bucket, held = detail.get("bucket"), detail.get("object")
        name = bucket.get("name") if isinstance(bucket, dict) else None
        told_of = held if isinstance(held, dict) else {}
        region = told.get("region")
        return _gather("s3-eventbridge", [_object(name, told_of.get("key"), region, told_of.get("version-id"), told_of.get("size"))])
    if isinstance(kind, str) and kind.endswith(" via CloudTrail"):
        if "Insight" in kind:
            return Reading("api-call", skipped=("insight",))
        return Reading("api-call", events=(detail,))
    return _fault("eventbridge", "notice-unknown", f"an EventBridge event of type {kind!r} from {told['source']!r} is none that we read")


def _from_s3(records: Any) -> Reading:
    if not isinstance(records, list):
        return _fault("s3", "notice-malformed", f"Records is a JSON {type(records).__name__}, not a list")
    found: list[Notice | str | Fault] = []
    for number, record in enumerate(records, 1):
        s3 = record.get("s3") if isinstance(record, dict) else None
        if not isinstance(s3, dict):
            found.append(Fault("notice-unknown", f"record {number} of {len(records)} is no S3 event: it has no s3 member"))
            continue
        event = record.get("eventName")
        if isinstance(event, str) and not event.removeprefix("s3:").startswith("ObjectCreated:"):
            found.append("not-created")
            continue
        bucket, held = s3.get("bucket"), s3.get("object")
        told_of = held if isinstance(held, dict) else {}
        key = told_of.get("key")
        found.append(
            _object(
                bucket.get("name") if isinstance(bucket, dict) else None,
                unquote_plus(key) if isinstance(key, str) else None,
                record.get("awsRegion"),
                told_of.get("versionId"),
                told_of.get("size"),
            )
        )
    return _gather("s3", found)


def _object(bucket: Any, key: Any, region: Any = None, version: Any = None, size: Any = None) -> Notice | str | Fault:
    """The notice, or why it is passed over, or what is wrong with it."""
    if not isinstance(bucket, str) or not bucket or not isinstance(key, str) or not key:
        return Fault("notice-malformed", f"it names no object: bucket {str(bucket)[:64]!r}, key {str(key)[:128]!r}")
    return skip_reason(key) or Notice(
        bucket,
        key,
        region if isinstance(region, str) and REGION.fullmatch(region) else None,
        version if isinstance(version, str) and version not in ("", "null") else None,
        size if isinstance(size, int) else None,
    )


def _gather(shape: str, found: list[Notice | str | Fault]) -> Reading:
    if not found:
        return _fault(shape, "notice-malformed", "it names no object at all")
    if len(found) > MOST_OBJECTS:
        return _fault(shape, "notice-malformed", f"it names {len(found)} objects, more than {MOST_OBJECTS}")
    if len(found) == 1 and isinstance(found[0], Notice):
        return Reading(shape, notices=(found[0],))
    return Reading(
        shape,
        # A message may name an object twice; once is enough.
        notices=tuple(dict.fromkeys(one for one in found if isinstance(one, Notice))),
        skipped=tuple(one for one in found if isinstance(one, str)),
        faults=tuple(one for one in found if isinstance(one, Fault)),
    )


def _fault(shape: str, reason: str, detail: str) -> Reading:
    return Reading(shape, faults=(Fault(reason, detail),))
