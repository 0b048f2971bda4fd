"""Patterns over names and ARNs mean what they look like, and no name makes one slow or goes round it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.glob import Glob


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("old-*", "OLD-web", True),
        ("OLD-*", "old-", True),
        ("old-?", "old-", False),
        ("old-?", "old-é", True),
        ("old", "older", False),
        ("*", "", True),
        ("*", "two\nlines", True),
        ("a[b]*", "a[b]c", True),
        ("a[b]*", "abc", False),
        ("a.c", "abc", False),
        ("\\d", "1", False),
        ("*:user/ann", "arn:aws:iam::111122223333:user/ann", True),
        ("*", None, False),
        ("half-?", "half-\ud800", True),
    ],
)
def test_a_star_is_anything_a_question_mark_one_character_and_all_else_itself(pattern: str, name: str | None, fits: bool) -> None:
    """Brackets and dots are no syntax, case makes no difference, and what is missing fits nothing."""
    assert Glob(pattern).fits(name) is fits


def test_case_counts_where_it_is_asked_for() -> None:
    """IAM's own names for principals mind case."""
    assert Glob("role/Deploy", cased=True).fits("role/Deploy")
    assert not Glob("role/Deploy", cased=True).fits("role/deploy")


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("arn:aws:iam::*:role/deploy", "arn:aws:iam::111122223333:role/deploy", True),
        ("arn:aws:iam::*:role/deploy", "arn:aws:iam::111122223333:role/x:role/deploy", False),
        ("arn:aws:iam::111122223333:role/*", "arn:aws:iam::111122223333:role/x:y/deploy", True),
        ("arn:aws*:iam::????????????:user/*", "arn:aws-cn:iam::111122223333:user/ann", True),
        ("arn:*", "arn:aws:iam::111122223333:user/ann", True),
        ("arn:aws:iam::*", "arn:aws:sts::111122223333:assumed-role/deploy/x", False),
    ],
)
def test_no_part_of_an_arn_reaches_over_its_colon(pattern: str, name: str, fits: bool) -> None:
    """A role whose path holds `:role/` does not pass for one without a path; the last part may hold anything."""
    assert Glob(pattern).fits(name) is fits


def test_a_long_name_makes_no_pattern_slow() -> None:
    """Many stars over 200,000 letters that nearly fit take no longer than reading them a few times."""
    began = process_time()
    assert not Glob("*a*a*a*a*a*a*b").fits("a" * 200_000)
    assert process_time() - began < 1


def test_a_pattern_is_bounded() -> None:
    """1024 characters are a pattern, one more is none."""
    assert Glob("?" * 1024).fits("x" * 1024)
    with pytest.raises(ValueError, match="1024"):
        Glob("?" * 1025)


@given(st.text("ab:*?", max_size=8), st.text("ab:", max_size=8))
def test_without_an_arn_it_means_what_fnmatch_means(pattern: str, name: str) -> None:
    """For patterns without brackets the standard library's matcher says the same."""
    assert Glob(pattern, cased=True).fits(name) is fnmatchcase(name, pattern)
