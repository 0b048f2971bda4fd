"""What a reader has to say beside its records: faults and skips, one of each reason, with the place of the first and the count of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from worker.model import Fault


class Tally:
    """Gathers while one object is read. A thousand faults of one reason are one fault with its count, not a thousand log lines."""

    def __init__(self) -> None:
        self.skipped: defaultdict[str, int] = defaultdict(int)
        self._details: dict[str, str] = {}
        self._counts: defaultdict[str, int] = defaultdict(int)

    def fault(self, reason: str, detail: str | Callable[[], str]) -> None:
        """Count a fault. A detail that costs something to word is handed in as a function, called for the first fault of its reason alone."""
        if reason not in self._details:
            self._details[reason] = detail if isinstance(detail, str) else detail()
        self._counts[reason] += 1

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(Fault(reason, detail, self._counts[reason]) for reason, detail in self._details.items())

    def has(self, *reasons: str) -> bool:
        """Whether there is a fault of one of these reasons."""
        return any(reason in self._details for reason in reasons)

    def __bool__(self) -> bool:
        """Whether there is any fault."""
        return bool(self._details)
