"""What AWS says, as bytes ready to be sent: with the members, headers and lengths that SQS, S3 and STS give them, made once where they can be."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

REGION = "us-east-1"
DICE = random.Random(4)  # noqa: S311  # makes ids, guards nothing
NOW = b"Tue, 24 Nov 2026 12:00:00 GMT"


def response(status: bytes, headers: bytes, body: bytes) -> bytes:
    """A whole HTTP answer; `headers` are lines with their ends."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def json_answer(body: bytes) -> bytes:
    """An answer of SQS."""
    headers = (
        b"x-amzn-RequestId: 6e2b1f2c-37c1-5a60-8d7a-41f2e3c9b0aa\r\nDate: %b\r\nContent-Type: application/x-amz-json-1.0\r\n"
        b"connection: keep-alive\r\n"
    )
    return response(b"200 OK", headers % NOW, body)


def received(messages: Sequence[bytes]) -> bytes:
    """ReceiveMessage: nothing at all is said where there is no message."""
    return json_answer(b'{"Messages":[%b]}' % b",".join(messages) if messages else b"{}")


@lru_cache(maxsize=256)
def batch(ids: tuple[bytes, ...], *, sent: bool) -> bytes:
    """DeleteMessageBatch, ChangeMessageVisibilityBatch or SendMessageBatch: all went well."""
    more = b',"MessageId":"6e2b1f2c-37c1-4a60-8d7a-41f2e3c9b0aa"' if sent else b""
    return json_answer(b'{"Failed":[],"Successful":[%b]}' % b",".join(b'{"Id":"%b"%b}' % (one, more) for one in ids))


def depths(waiting: int) -> bytes:
    """GetQueueAttributes."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
    return json_answer(json.dumps({"Attributes": dict(zip(names, (str(waiting), "0", "0"), strict=True))}).encode())


def message(name: str, size: int, at: float) -> tuple[bytes, bytes]:
    """The receipt and the JSON of a message that tells of an object (bucket/key), put at a time in seconds since 1970."""
    body = notification(name, size, at)
    receipt = "AQEB" + base64.b64encode(DICE.randbytes(306)).decode()
    told = {
        "MessageId": str(uuid.UUID(int=DICE.getrandbits(128), version=4)),
        "ReceiptHandle": receipt,
        "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "Body": body,
        "Attributes": {"SentTimestamp": str(int(at * 1000)), "ApproximateReceiveCount": "1"},
    }
    return receipt.encode(), json.dumps(told, separators=(",", ":")).encode()


def again(told: bytes) -> bytes:
    """The JSON of a message that is received a second time."""
    return told.replace(b'"ApproximateReceiveCount":"1"', b'"ApproximateReceiveCount":"2"')


def notification(name: str, size: int, at: float) -> str:
    """What S3 says; https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html."""
    bucket, _, key = name.partition("/")
    mark = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}.{int(at * 1000) % 1000:03}Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AROAQRSTUVWXYZEXAMPLE:prod.iad.cloudtrail.aws.internal"},
        "requestParameters": {"sourceIPAddress": "203.0.113.17"},
        "responseElements": {"x-amz-request-id": mark[:16].upper(), "x-amz-id-2": (mark * 3)[:76]},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "cloudtrail-to-worker",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A3NL1KOZZKEXAMPLE"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": key, "size": size, "eTag": mark, "sequencer": mark[:18].upper()},
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"))


def stored(body: bytes) -> bytes:
    """GetObject of an object as CloudTrail puts it."""
    headers = (
        b"x-amz-id-2: 9vKBh1c7pM3yQ2mZ0n1T5Yx8aJ4sU6wE7rF2gD1hL0kP9oI8uY7tR6eW5qA4sD3fG2hJ1kL0zX=\r\nx-amz-request-id: 7C2B9D4E6F1A3C5B\r\n"
        b"Date: %b\r\nLast-Modified: Tue, 24 Nov 2026 11:55:00 GMT\r\n"
        b'ETag: "%b"\r\nx-amz-server-side-encryption: AES256\r\nAccept-Ranges: bytes\r\nContent-Type: application/json\r\n'
        b"Content-Encoding: gzip\r\nServer: AmazonS3\r\n"
    )
    return response(b"200 OK", headers % (NOW, hashlib.md5(body, usedforsecurity=False).hexdigest().encode()), body)


XML = b"Content-Type: text/xml\r\n"
MISSING = response(
    b"404 Not Found",
    b"Content-Type: application/xml\r\n",
    b"<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>",
)


@lru_cache(maxsize=256)
def refused(account: str, action: str) -> bytes:
    """A call of IAM's or EC2's query protocol, denied."""
    told = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
        f"<Message>User: arn:aws:iam::{account}:user/bench is not authorized to perform: {action}</Message></Error>"
        "<RequestId>0f2c4a1e-5c1f-4b7e-9a51-3c7de21f08b6</RequestId></ErrorResponse>"
    )
    return response(b"403 Forbidden", XML, told.encode())


def identity(account: str) -> bytes:
    """GetCallerIdentity."""
    told = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>arn:aws:iam::{account}:user/bench</Arn><UserId>AIDAJQABLZS4A3QDU576Q</UserId><Account>{account}</Account>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    return response(b"200 OK", XML, told.encode())
