"""The signature is the one that AWS's own SDK makes."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from worker.sigv4 import EMPTY_SHA256, Signer

STAMP = "20261124T120000Z"


def theirs(signer: Any, request: AWSRequest) -> str:
    request.context["timestamp"] = STAMP
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signer._inject_signature_to_request(request, signer.signature(signer.string_to_sign(request, canonical), request))
    return str(request.headers["Authorization"])


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
    st.none() | st.text(st.sampled_from("abc/+=."), min_size=1, max_size=10),
    st.none() | st.just("session/token+=="),
    st.sampled_from(["us-east-1", "eu-west-3"]),
)
def test_a_get_is_signed_as_botocore_signs_it(key, version, token, region):
    """For any key, with a version and with a session's token or without."""
    path = "/logs/" + quote(key, safe="/~")
    query = "" if version is None else f"versionId={quote(version, safe='')}"
    request = AWSRequest("GET", f"https://s3.example.com{path}" + (f"?{query}" if query else ""))
    request.context["payload_signing_enabled"] = True
    request.context["client_config"] = None
    signer = S3SigV4Auth(Credentials("AKID", "secret", token), "s3", region)
    headers = [("host", "s3.example.com"), ("x-amz-content-sha256", EMPTY_SHA256), ("x-amz-date", STAMP)]
    headers += [("x-amz-security-token", token)] if token else []
    ours = Signer("AKID", "secret", STAMP, region, "s3", sorted(headers)).authorization(
        method="GET", path=path, query=query, payload_sha256=EMPTY_SHA256
    )
    assert ours == theirs(signer, request)


@given(st.binary(max_size=40), st.none() | st.just("session/token+=="))
def test_a_post_is_signed_as_botocore_signs_it(body, token):
    """For any body."""
    target = "AmazonSQS.ReceiveMessage"
    request = AWSRequest(
        "POST",
        "https://sqs.example.com/",
        headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target},
        data=body,
    )
    signer = SigV4Auth(Credentials("AKID", "secret", token), "sqs", "us-east-1")
    headers = [("content-type", "application/x-amz-json-1.0"), ("host", "sqs.example.com"), ("x-amz-date", STAMP), ("x-amz-target", target)]
    headers += [("x-amz-security-token", token)] if token else []
    ours = Signer("AKID", "secret", STAMP, "us-east-1", "sqs", sorted(headers)).authorization(
        method="POST", path="/", query="", payload_sha256=hashlib.sha256(body).hexdigest()
    )
    assert ours == theirs(signer, request)
