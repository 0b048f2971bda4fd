"""Signatures: what was signed is taken, however it is spelt, and nothing else is."""

import base64
import hashlib
import hmac
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.signature import is_signed, signed

KEYS = (b"the-first-secret-of-24-bytes", b"the-other-secret-of-24-bytes")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(), VALUES)


@given(BODIES)
def test_what_was_signed_is_taken_after_any_journey(body: dict[str, Any]) -> None:
    """Written and read as JSON, its members in another order, with spaces or without: the same message."""
    sent = signed(body, KEYS)
    turned = dict(reversed(sent.items()))
    for text in (orjson.dumps(sent), json.dumps(turned), json.dumps(turned, indent=2, ensure_ascii=False)):
        assert is_signed(orjson.loads(text), KEYS)
        assert is_signed(orjson.loads(text), KEYS[:1])
        assert not is_signed(orjson.loads(text), KEYS[1:])


@given(body=BODIES, name=st.text(), put=VALUES)
def test_whatever_is_changed_shows(body: dict[str, Any], name: str, put: Any) -> None:
    """A member that is put in, changed or taken out; one that says the same is no change."""
    sent = signed(body, KEYS)
    other = {**sent, name: put}
    assert is_signed(other, KEYS) == (json.dumps(other, sort_keys=True) == json.dumps(sent, sort_keys=True))
    for gone in sent:
        assert not is_signed({key: value for key, value in sent.items() if key != gone}, KEYS)


def test_it_is_made_as_the_documents_say() -> None:
    """HMAC-SHA256 of the canonical JSON: what a program in any language can make."""
    text = b'{"a":[1,"\\u00e9"],"b":null}'
    made = "v1," + base64.b64encode(hmac.new(KEYS[0], text, hashlib.sha256).digest()).decode()
    assert signed({"b": None, "a": [1, "é"]}, KEYS)["signature"] == made
    assert signed({"b": None}, ()) == {"b": None}


@pytest.mark.parametrize("told", [None, 1, [], "", "v1,", "v2,x", "é", "\ud800", "v1," + "A" * 44])
def test_what_is_no_signature_is_none(told: Any) -> None:
    """Whatever stands there, and without a secret nothing is signed."""
    assert not is_signed({"signature": told}, KEYS)
    assert not is_signed(signed({}, KEYS), ())


def test_what_has_no_canonical_form_is_not_signed_and_does_not_raise() -> None:
    """Deeper than JSON is read here, and numbers that JSON has no word for."""
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for odd in (deep, float("nan"), object()):
        assert not is_signed({"a": odd, "signature": "v1,x"}, KEYS)
