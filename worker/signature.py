"""Signatures of messages that somebody else could write too: HMAC-SHA256, written as webhooks write theirs. Pure.

A task carries its own, in its member `signature`: over the canonical JSON (members sorted, no spaces) of all the rest of it, so that whoever parsed
a message can check it, however it was spelt on its way. Whoever dispatches signs with the first of the secrets; whoever works tasks takes a signature
by any of them, so that a secret can be changed without a task being lost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from worker.state import canonical

MEMBER = "signature"


def signature(secret: bytes, text: bytes) -> str:
    """`v1,` and the Base64 of the HMAC-SHA256 of a text."""
    return f"v1,{base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()}"


def signed(value: Mapping[str, Any], secrets: Sequence[bytes]) -> dict[str, Any]:
    """A JSON-ready mapping with its signature by the first secret; without a secret, as it is."""
    return {**value, MEMBER: signature(secrets[0], _text(value))} if secrets else dict(value)


def is_signed(value: Mapping[str, Any], secrets: Sequence[bytes]) -> bool:
    """Whether a mapping carries a signature by one of the secrets. Never raises, whatever stands in it."""
    told = value.get(MEMBER)
    if not isinstance(told, str) or not told.isascii():
        return False
    try:
        text = _text({name: member for name, member in value.items() if name != MEMBER})
    except (TypeError, ValueError, RecursionError):
        return False
    # Every secret is tried, so that the time tells nothing of which one it was.
    return True in [hmac.compare_digest(signature(secret, text), told) for secret in secrets]


def _text(value: Mapping[str, Any]) -> bytes:
    return canonical.dump(value).encode()
