"""JSON parsed whole and built only where somebody looks: pure.

simdjson checks every byte of a document and keeps it as a tape; a member becomes a Python value when it is asked for. Of a member that an
object names twice the first is found. What simdjson refuses and Python's json takes (a lone surrogate, a number beyond all floats) comes as plain
values at once, so callers tell objects and lists by `OBJECTS` and `LISTS`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
from typing import Any

import fastsimdjson
import orjson

OBJECTS = (fastsimdjson.Object, dict)
LISTS = (fastsimdjson.Array, list)

_LARGEST = 2**64


def parse(data: bytes | bytearray | memoryview | str) -> Any:
    """The document: a view of an object or list, a plain one, or a scalar. Raises `json.JSONDecodeError`, whatever is wrong."""
    try:
        return fastsimdjson.parse(data)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, nested beyond measure, or a number of thousands of digits
        raise json.JSONDecodeError(str(error) or type(error).__name__, "", 0) from None


def member(view: Any, name: str) -> Any:
    """A member of an object, None where there is none; infinity for a number of thousands of digits, which Python does not make."""
    try:
        return view.get(name)
    except ValueError:
        return inf


def each(values: Any) -> Iterator[Any]:
    """The items of a list, such numbers as infinity."""
    rest = iter(values)
    while True:
        try:
            yield from rest
        except ValueError:
            yield inf
        else:
            return


def event_of(record: Any) -> tuple[dict[str, Any], int]:
    """The record as plain values that orjson can write again, and its size as compact JSON (0 where it is nested deeper than orjson writes).

    Of a member that the record or its userIdentity names twice, the first counts, as it does for whoever looks at the view. An integer beyond
    64 bits becomes a float, and a lone surrogate a question mark: a caller may put either into a parameter to stay unseen.
    """
    if isinstance(record, dict):
        event = record
    else:
        event = _first_of_each(record)
        identity = record.get("userIdentity")
        if isinstance(identity, fastsimdjson.Object):
            event["userIdentity"] = _first_of_each(identity)
    try:
        return event, len(orjson.dumps(event))
    except TypeError:
        _tame(event)
    try:
        return event, len(orjson.dumps(event))
    except TypeError:
        return event, 0


def _first_of_each(view: Any) -> dict[str, Any]:
    built: dict[str, Any] = view.as_dict()
    if len(built) != len(view):
        built = {name: _plain(view[name]) for name in built}
    return built


def _plain(value: Any) -> Any:
    if isinstance(value, fastsimdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, fastsimdjson.Array) else value


def _tame(event: dict[str, Any]) -> None:
    """Without recursion, because it may be nested deeper than Python goes."""
    boxes: list[Any] = [event]
    while boxes:
        box = boxes.pop()
        members: list[tuple[Any, Any]]
        if isinstance(box, dict):
            members = [(_encodable(name), value) for name, value in box.items()]
            box.clear()
        else:
            members = list(enumerate(box))
        for name, value in members:
            if isinstance(value, dict | list):
                boxes.append(value)
            box[name] = _tamed(value)


def _tamed(value: Any) -> Any:
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, int) and not -_LARGEST // 2 <= value < _LARGEST:
        return _as_float(value)
    return value


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf
