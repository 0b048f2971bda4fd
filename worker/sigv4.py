"""AWS Signature Version 4: pure. The Authorization header of a request, for a credential and a moment.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. What requests of one second have in common is put together
once, and the derived key once for each credential, day, region and service; what is left is two hashes a request.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_INNER, _OUTER, _BLOCK_BYTES = 0x36, 0x5C, 64


class Signer:
    """Signs requests that have the same headers.

    `stamp` is the moment as X-Amz-Date has it (20261124T120000Z); `headers` are those that are signed, lower-case, trimmed and sorted by name, with host and
    x-amz-date among them.
    """

    def __init__(self, access_key: str, secret_key: str, stamp: str, region: str, service: str, headers: Sequence[tuple[str, str]]) -> None:
        names = ";".join([name for name, _ in headers])
        lines = "".join([f"{name}:{value}\n" for name, value in headers])
        day = stamp[:8]
        scope = f"{day}/{region}/{service}/aws4_request"
        self._middle = f"{lines}\n{names}"
        self._text = f"{ALGORITHM}\n{stamp}\n{scope}\n"
        self._told = f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature="
        self._inner, self._outer = _keyed(secret_key, day, region, service)

    def authorization(self, *, method: str, path: str, query: str, payload_sha256: str) -> str:
        """The value of the Authorization header. `path` and `query` are as they are sent, percent-encoded."""
        canonical = f"{method}\n{path}\n{query}\n{self._middle}\n{payload_sha256}"
        # HMAC (RFC 2104) of a key that stays: its two hashes go on from where the key left them, at a third of the cost.
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(f"{self._text}{hashlib.sha256(canonical.encode()).hexdigest()}".encode())
        outer.update(inner.digest())
        return self._told + outer.hexdigest()


@lru_cache(maxsize=64)
def _keyed(secret_key: str, day: str, region: str, service: str) -> tuple[hashlib._Hash, hashlib._Hash]:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(bytes(byte ^ _INNER for byte in padded)), hashlib.sha256(bytes(byte ^ _OUTER for byte in padded))
