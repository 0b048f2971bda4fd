"""Patterns over names and ARNs: `*` stands for anything, `?` for one character, all else for itself. Pure.

A pattern that begins with `arn:` is compared part by part, as IAM's ArnLike compares: what stands for anything in one of the first five parts
does not reach over a colon. Paths of roles may hold colons, so without that whoever may make roles could make one whose ARN fits
`arn:aws:iam::*:role/deploy`. Matched by RE2: no name, however long, makes a pattern slow.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_ARN
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import re2

ARN = "arn:"
ARN_PARTS = 6
LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern as written. Without `cased`, case makes no difference. Raises ValueError where it is too long."""

    text: str
    cased: bool = False
    _compiled: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.text) > LONGEST:
            raise ValueError(f"a pattern has {LONGEST} characters at most")
        text = self._spelt(self.text)
        parts = text.split(":", ARN_PARTS - 1) if text.startswith(ARN) else [text]
        spelt = [_spelt(part, "[^:]" if number < len(parts) - 1 else ".") for number, part in enumerate(parts)]
        object.__setattr__(self, "_compiled", re2.compile(f"(?s){':'.join(spelt)}"))

    def __str__(self) -> str:
        return self.text

    @property
    def fits_all(self) -> bool:
        """Whether it is made of nothing but `*` and `?`."""
        return not self.text.strip("*?")

    def fits(self, name: str | None) -> bool:
        """Whether a name is as the pattern says. None is no name and fits no pattern."""
        return name is not None and self._compiled.fullmatch(self._spelt(name)) is not None

    def _spelt(self, text: str) -> str:
        # Half surrogates, which JSON can spell and UTF-8 cannot, become a question mark.
        plain = text.encode("utf-8", "replace").decode()
        return plain if self.cased else plain.lower()


def _spelt(part: str, one: str) -> str:
    return "".join(f"{one}*" if letter == "*" else one if letter == "?" else re2.escape(letter) for letter in part)
