"""Answers of AWS that are kept: for how long each may be given again, and when an old one is better than none. Pure.

An answer is given again within its lifetime, but none from before the event in question, which is evidence of another state, unless the event could
not change it (`Call.standing`). Where AWS fails, an answer past its time, or from before the event, may stand in: it then says so.
Failures are kept too, for a short time. What is kept is bounded in number and in bytes; the oldest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from worker.enrich.fact import Answer, Call

MOST_ANSWERS = 4096
MOST_BYTES = 128 * 1024 * 1024
"""What answers may take of the memory, as `_bytes` estimates it."""
CONTAINER_BYTES, MEMBER_BYTES, VALUE_BYTES = 64, 32, 56
"""Of Python's, about: an empty list or mapping, a place in it, and a short text, number or time."""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    fresh_until: datetime
    stands_in_until: datetime
    size_bytes: int


class Answers:
    """What AWS said, by key. The caller tells the time."""

    def __init__(self, most_answers: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES) -> None:
        self._most_answers = most_answers
        self._most_bytes = most_bytes
        self._bytes = 0
        self._good: OrderedDict[str, _Kept] = OrderedDict()
        self._faults: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._good) + len(self._faults)

    def fresh(self, key: str, call: Call, since: datetime | None, now: datetime) -> Answer | None:
        """The answer to give, if there is one that may be: what AWS said, else the failure that is young enough not to be tried again."""
        for kept in (self._good.get(key), self._faults.get(key)):
            if kept is None or now >= kept.fresh_until:
                continue
            if call.standing or since is None or not kept.answer.at < since <= now:
                return kept.answer
        return None

    def stand_in(self, key: str, fault: Answer, now: datetime) -> Answer | None:
        """An older answer in place of a failure, with what is wrong with it."""
        kept = self._good.get(key)
        if kept is None or fault.fault is None or now >= kept.stands_in_until:
            return None
        age = (fault.at - kept.answer.at).total_seconds()
        return replace(kept.answer, cached=True, stale=f"as of {age:.0f} s before it could not be asked again ({fault.fault.text})")

    def keep(self, key: str, call: Call, answer: Answer, now: datetime) -> None:
        """Remember an answer. A failure does not take the place of what was known before."""
        if answer.fault is None or answer.gone:
            self._faults.pop(key, None)
            self._forget(key)
            fresh = now + timedelta(seconds=call.lifetime_seconds)
            kept = _Kept(answer, fresh, fresh + timedelta(seconds=call.stand_in_seconds), _bytes(answer.value))
            self._good[key] = kept
            self._bytes += kept.size_bytes
            while len(self._good) > self._most_answers or (self._bytes > self._most_bytes and len(self._good) > 1):
                self._forget(next(iter(self._good)))
        else:
            until = now + timedelta(seconds=min(call.lifetime_seconds, call.fault_seconds))
            self._faults.pop(key, None)
            self._faults[key] = _Kept(answer, until, until, 0)
            if len(self._faults) > self._most_answers:
                self._faults.popitem(last=False)

    def sweep(self, now: datetime) -> None:
        """Let go of what nobody will be given any more."""
        for key in [key for key, kept in self._good.items() if kept.stands_in_until <= now]:
            self._forget(key)
        for key in [key for key, kept in self._faults.items() if kept.fresh_until <= now]:
            del self._faults[key]

    def _forget(self, key: str) -> None:
        kept = self._good.pop(key, None)
        self._bytes -= 0 if kept is None else kept.size_bytes


def _bytes(value: Any) -> int:
    """About what a value takes of the memory. A key is not counted: the same one stands in every entry of a list."""
    if isinstance(value, Mapping):
        return CONTAINER_BYTES + sum(MEMBER_BYTES + _bytes(one) for one in value.values())
    if isinstance(value, list | tuple):
        return CONTAINER_BYTES + sum(MEMBER_BYTES + _bytes(one) for one in value)
    return VALUE_BYTES + (len(value) if isinstance(value, str | bytes) else 0)
