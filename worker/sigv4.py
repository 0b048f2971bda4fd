"""AWS Signature Version 4: pure. The Authorization header of a request, for a credential and a moment.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. The derived key is made once for each credential, day,
region and service; what is left is two hashes a request.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def authorization(
    access_key: str,
    secret_key: str,
    stamp: str,
    region: str,
    service: str,
    *,
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    payload_sha256: str,
) -> str:
    """The value of the Authorization header.

    `stamp` is the moment as X-Amz-Date has it (20261124T120000Z); `path` and `query` are as they are sent, percent-encoded; `headers` are those that are
    signed, lower-case, trimmed and sorted by name, with host and x-amz-date among them.
    """
    names = ";".join([name for name, _ in headers])
    lines = "".join([f"{name}:{value}\n" for name, value in headers])
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_sha256}"
    day = stamp[:8]
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_key(secret_key, day, region, service), text.encode(), "sha256").hex()
    return f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"


@lru_cache(maxsize=64)
def _key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
