"""How many different ones have been asked about lately: pure but for its memory, which is bounded.

In goes a place (an account), a name and a moment; out comes how many different names were asked about there within `seconds` before it.
Facts choose by it: a few principals are asked about one by one, a crowd by one answer for the whole account; and a question that AWS
meters is not asked for everybody. The oldest names, and the places longest not asked about, go first.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

MOST_PLACES = 256
MOST_NAMES = 128


class Crowd:
    """One an investigator, so that findings share it."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, OrderedDict[str, datetime]] = OrderedDict()

    def joined(self, place: str, name: str, at: datetime, seconds: float) -> int:
        """Count a name in, and answer how many different ones of its place came within the time, it among them; `MOST_NAMES` at most."""
        names = self._seen.setdefault(place, OrderedDict())
        self._seen.move_to_end(place)
        names[name] = at
        names.move_to_end(name)
        while names and (len(names) > MOST_NAMES or next(iter(names.values())) <= at - timedelta(seconds=seconds)):
            names.popitem(last=False)
        while len(self._seen) > MOST_PLACES:
            self._seen.popitem(last=False)
        return len(names)
