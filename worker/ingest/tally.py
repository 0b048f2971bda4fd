"""What a reader has to say beside its records: faults and skips, one of each reason, with the place of the first and the count of all."""

from __future__ import annotations

from collections import Counter

from worker.model import Fault


class Tally:
    """Gathers while one object is read. A thousand faults of one reason are one fault with its count, not a thousand log lines."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.skipped: Counter[str] = Counter()

    def fault(self, reason: str, detail: str) -> None:
        first = self.faults.get(reason)
        self.faults[reason] = Fault(reason, detail) if first is None else Fault(reason, first.detail, first.count + 1)
