"""Plain texts and what is asked of them, for the tests of the compiled pass."""

from typing import Any

import pytest

from tests.ingest.fuzz_skim import check_skim, sieve, told_by
from worker.ingest import skim

SKIMMED = pytest.mark.skipif(not skim.AVAILABLE, reason="the compiled part is not built (no C compiler), or this processor has no AVX2")

CHUNK = 4096
LONG_BYTES = 1 << 20
KEY = ("ec2.amazonaws.com", "DescribeInstances", "IAMUser")
USUAL = (
    b'{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","userName":"a"},"eventTime":"2023-07-10T12:07:24Z",'
    b'"eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances","readOnly":true}'
)


def text_of(*records):
    return b'{"Records":[' + b",".join(records) + b"]}"


def with_value(value):
    """A text with one ordinary record, and one that has this member value."""
    return text_of(USUAL, b'{"eventName":"A","more":' + value + b',"after":"x"}')


def skimmer(*keys):
    made: Any = skim._skim.Skimmer()
    assert all(made.add(*key) for key in keys)
    return made


def is_taken(text):
    """Whether the pass takes a text for plain; whatever it says, it may say."""
    return check_skim(skimmer(KEY), {KEY}, text, 1000)


def is_read_alike(text, piece_bytes=1_000_000):
    """Whether reading gives the same with the pass and without it, cold and warm."""
    with_pass, exact = sieve(blind=False), sieve(blind=True)
    cold = told_by(with_pass, text, piece_bytes), told_by(exact, text, piece_bytes)
    warm = told_by(with_pass, text, piece_bytes), told_by(exact, text, piece_bytes)
    return cold[0] == cold[1] == warm[0] == warm[1]
