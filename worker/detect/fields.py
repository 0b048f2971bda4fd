"""Sigma field names and the untrusted events they are looked up in: pure.

In goes a field name as a rule writes it (`userIdentity.sessionContext.sessionIssuer.type`), out comes a reader that gives every value an
event holds under it. A reader answers with an empty list where there is none and raises for nothing that JSON can say.

How a name is read, in this order:
- dots step into nested objects; a step into a list steps into each of its elements, however deep the lists are nested;
- where nothing is found so, a member whose own name has the dots in it (`{"userIdentity.type": ...}`, as flattening tools write);
- a member of exactly the name hides members that differ only by case; without one, all of those are taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Event = Mapping[str, Any]
Reader = Callable[[Event], list[Any]]

FINAL_SIGMA, SIGMA = "\u03c2", "\u03c3"


def fold(text: str) -> str:
    """The text as Sigma's comparison without regard to case sees it: Unicode lower case, and the final sigma as any other.

    Lower case and not Python's `casefold`, because `Interest` is asked in lower case before a record is built. The sigma is the one
    letter whose lower case depends on its neighbours, which would make `contains` depend on them.
    """
    return text.lower() if text.isascii() else text.lower().replace(FINAL_SIGMA, SIGMA)


def text_of(value: Any) -> str | None:
    """A scalar as text: strings as they are, `true` and `false`, numbers in decimal. None for null, objects and lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return None


def json_text(value: Any) -> str:
    """An object or list as compact JSON, members in the order of the event, letters beyond ASCII as themselves."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def elements(values: list[Any]) -> Iterator[Any]:
    """The elements of a list and, after each that is itself a list, that one's elements."""
    stack = list(reversed(values))
    while stack:
        value = stack.pop()
        yield value
        if isinstance(value, list):
            stack.extend(reversed(value))


def leaves(value: Any) -> Iterator[Any]:
    """Every scalar within a value, however deep; null counts as none."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, (dict, Mapping)):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif value is not None:
            yield value


def reader(field: str) -> Reader:
    """The reader of one field."""
    parts = field.split(".")
    if len(parts) == 1:
        folded = fold(field)
        return lambda event: [event[field]] if field in event else _members(event, field, folded)
    # At each depth, the names that one member may bear: the next part alone, else that part and the following ones with their dots.
    names = [
        [(end, name, fold(name)) for end in range(start + 1, len(parts) + 1) for name in [".".join(parts[start:end])]]
        for start in range(len(parts))
    ]

    def look(value: Any, depth: int) -> list[Any]:
        if depth == len(names):
            return [value]
        found: list[Any] = []
        for owner in [value] if isinstance(value, (dict, Mapping)) else _objects(value):
            for end, name, folded in names[depth]:
                under = [deep for member in _members(owner, name, folded) for deep in look(member, end)]
                if under:
                    found += under
                    break
        return found

    def read(event: Event) -> list[Any]:
        value: Any = event
        for part in parts:  # nearly always objects all the way, with members of exactly these names
            if type(value) is not dict or part not in value:
                return look(event, 0)
            value = value[part]
        return [value]

    return read


def _objects(value: Any) -> list[Event]:
    return [element for element in elements(value) if isinstance(element, dict)] if isinstance(value, list) else []


def _members(owner: Event, name: str, folded: str) -> list[Any]:
    if name in owner:
        return [owner[name]]
    if not name.isascii():
        return [value for key, value in owner.items() if fold(key) == folded]
    # Nothing folds to an ASCII name of another length, and comparing lengths first makes the common miss cheap.
    length = len(name)
    return [value for key, value in owner.items() if len(key) == length and key.lower() == folded]
