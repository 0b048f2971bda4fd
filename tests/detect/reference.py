"""What a Sigma rule says of one event, by the book: the oracle that the compiled rules are held against.

In go a rule as plain YAML data (`documents` reads it) and one decoded CloudTrail event; out comes whether the rule matches. It is written
from the Sigma specification 2.1 (https://github.com/SigmaHQ/sigma-specification: rules, appendix of modifiers) and, where that leaves a
choice, from the table "What things mean here" in docs/rules.md. It shares no code with `worker`, nor with pySigma or RE2, and looks at
nothing before it is asked: no index, no compiling, clarity over speed. A rule that `worker` refuses means nothing here either: what comes
in is taken to be well-formed. A newcomer who teaches the rules a new modifier adds it here from its description alone.

Where both are silent there is no saying who is right, and this does as `worker` was seen to do: several members whose names differ in case
alone all count; `re` also looks into the compact JSON of objects and lists, but not into the texts within; a v6 address that stands for a v4
one is both; `fieldref` compares texts, numbers and bools as they are written, never objects, and null with nothing; patterns of conditions
pass over names with an underscore first unless they begin with one; an empty list of values is null; a date without a time is midnight UTC.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product
from typing import Any, Final

import yaml

Event = Mapping[str, Any]
Pattern = tuple[str, ...]
"""A text with wildcards: single characters that stand for themselves, and `ANY` and `ONE`."""

ANY: Final = "any characters"
ONE: Final = "one character"
DASHES: Final = "-/–—―"  # noqa: RUF001  # the dashes of the specification
TIMES: Final = ("minute", "hour", "day", "week", "month", "year")
COMPARED: Final[dict[str, Callable[[float, float], bool]]] = {
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
}
TEXT_ENCODINGS: Final = {"wide": "utf-16-le", "utf16le": "utf-16-le", "utf16be": "utf-16-be", "utf16": "utf-16-le"}


class _Loader(yaml.SafeLoader):
    """YAML as it is, but a time stays text, as events hold it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(text: str) -> list[dict[str, Any]]:
    """The rules in a file's text; other documents are passed over."""
    found = yaml.load_all(text, Loader=_Loader)  # a safe loader
    return [document for document in found if isinstance(document, dict) and "detection" in document]


def matches(rule: Mapping[str, Any], event: Event) -> bool:
    """Whether a rule matches an event: any of its conditions holds (rules specification, "Condition")."""
    detections = {name: definition for name, definition in rule["detection"].items() if name != "condition"}
    conditions = rule["detection"]["condition"]
    return any(_condition(_parsed(one), detections, event) for one in ([conditions] if isinstance(conditions, str) else conditions))


# Conditions.

Expression = tuple[Any, ...]
"""`("or" | "and", left, right)`, `("not", operand)`, `("of", "1" | "all", pattern)`, `("name", identifier)`."""


@cache
def _parsed(condition: str) -> Expression:
    """From least to most binding: or, and, not, x of, brackets."""
    words = re.findall(r"[()]|[^\s()]+", condition)

    def either() -> Expression:
        left = both()
        while words and words[0] == "or":
            words.pop(0)
            left = ("or", left, both())
        return left

    def both() -> Expression:
        left = one()
        while words and words[0] == "and":
            words.pop(0)
            left = ("and", left, one())
        return left

    def one() -> Expression:
        word = words.pop(0)
        if word == "not":
            return ("not", one())
        if word == "(":
            inner = either()
            assert words.pop(0) == ")"
            return inner
        if word in ("1", "any", "all") and words and words[0] == "of":
            words.pop(0)
            return ("of", "all" if word == "all" else "1", words.pop(0))
        return ("name", word)

    whole = either()
    assert not words, condition
    return whole


def _condition(expression: Expression, detections: Mapping[str, Any], event: Event) -> bool:
    match expression:
        case ("or", left, right):
            return _condition(left, detections, event) or _condition(right, detections, event)
        case ("and", left, right):
            return _condition(left, detections, event) and _condition(right, detections, event)
        case ("not", operand):
            return not _condition(operand, detections, event)
        case ("of", quantity, names):
            each = (detection(detections[name], event) for name in detections if _chosen(name, names))
            return all(each) if quantity == "all" else any(each)
        case ("name", name):
            return detection(detections[name], event)
    raise AssertionError(expression)


def _chosen(name: str, pattern: str) -> bool:
    """`them` is every name, a pattern has `*` for any characters; neither means names with an underscore first, unless it says so."""
    if name.startswith("_") and not pattern.startswith("_"):
        return False
    return pattern == "them" or re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name) is not None


# Detections.


def detection(definition: Any, event: Event) -> bool:
    """A map is all of its items, a list any of its parts; a part that is no map is a keyword."""
    if isinstance(definition, Mapping):
        return all(item(key, value, event) for key, value in definition.items())
    if isinstance(definition, list):
        return any(detection(part, event) for part in definition)
    return item("", definition, event)


def item(key: str, value: Any, event: Event) -> bool:
    """Whether the event has, in the field that a key names, what its modifiers make of the value: any of a list, with `all` each."""
    field, *modifiers = key.split("|")
    values = value if isinstance(value, list) and value else [None if isinstance(value, list) else value]
    found = list(_within(event)) if not field else list(_found(event, tuple(field.split("."))))
    each = (_holds(found, tuple(modifiers), one, event, keyword=not field) for one in values)
    held = all(each) if "all" in modifiers else any(each)
    return held is not ("neq" in modifiers)


def _holds(found: list[Any], modifiers: tuple[str, ...], value: Any, event: Event, *, keyword: bool) -> bool:
    """Whether one value of a rule holds for what its field holds: the members found, of whatever type."""
    test: Callable[[Any], bool]
    if "exists" in modifiers:
        return bool(found) is value
    if value is None:
        return not found or any(scalar is None for scalar in _scalars(found))
    if "fieldref" in modifiers:
        others = list(_scalars(_found(event, tuple(value.split(".")))))
        return any(_refers(one, other, modifiers) for one, other in product(_scalars(found), others))
    if part := next((modifier for modifier in modifiers if modifier in TIMES), None):
        test = partial(_part_of_time, part, modifiers, value)
    elif comparison := next((modifier for modifier in modifiers if modifier in COMPARED), None):
        test = partial(_compared, comparison, value)
    elif "cidr" in modifiers:
        test = partial(_in_network, value)
    elif "re" in modifiers:
        return any(_searched(value, modifiers, text) for text in [*_texts(found), *_json(found)])
    else:
        return any(_alike(found, pattern, value, cased="cased" in modifiers) for pattern in _patterns(value, modifiers, keyword=keyword))
    return any(test(scalar) for scalar in _scalars(found))


# Fields.


def _found(value: Any, path: tuple[str, ...]) -> list[Any]:
    """What a path leads to: into objects and into each element of lists; nested members, else ones with dots in their names."""
    if not path:
        return [value]
    if isinstance(value, list):
        return [found for element in value for found in _found(element, path)]
    if isinstance(value, dict):
        for length in range(1, len(path) + 1):
            if found := [one for member in _members(value, ".".join(path[:length])) for one in _found(member, path[length:])]:
                return found
    return []


def _members(value: dict[str, Any], name: str) -> list[Any]:
    """The member of that name; else every one whose name differs in case alone."""
    if name in value:
        return [value[name]]
    return [member for key, member in value.items() if _lower(key) == _lower(name)]


def _within(value: Any) -> Iterator[Any]:
    """Every scalar anywhere in a value."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _within(inner)
    else:
        yield value


def _scalars(found: Iterable[Any]) -> Iterator[Any]:
    """What is found, with lists as their elements; objects are no scalars."""
    for value in found:
        if isinstance(value, list):
            yield from _scalars(value)
        elif not isinstance(value, dict):
            yield value


def _texts(found: Iterable[Any]) -> Iterator[str]:
    """The texts of what is found, and of the elements of lists."""
    return (text for scalar in _scalars(found) if (text := _text(scalar)) is not None)


def _json(found: Iterable[Any]) -> Iterator[str]:
    """The compact JSON of objects and lists that are found."""
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in found if isinstance(value, (dict, list)))


def _text(scalar: Any) -> str | None:
    if scalar is None:
        return None
    return str(scalar).lower() if isinstance(scalar, bool) else str(scalar)


# Texts.


def _lower(text: str) -> str:
    return text.lower().replace("\u03c2", "\u03c3")


def _alike(found: list[Any], pattern: Pattern, value: Any, *, cased: bool) -> bool:
    if not isinstance(value, (str, bool)) and any(
        isinstance(scalar, (int, float)) and not isinstance(scalar, bool) and scalar == value for scalar in _scalars(found)
    ):
        return True
    texts = list(_texts(found))
    if pattern and pattern[0] == pattern[-1] == ANY:
        texts += [*_json(found), *(text for text in _within(found) if isinstance(text, str))]
    expression = _expression(pattern, cased)
    return any(expression.fullmatch(text if cased else _lower(text)) for text in texts)


@cache
def _expression(pattern: Pattern, cased: bool) -> re.Pattern[str]:
    plain = {ANY: ".*", ONE: "."}
    return re.compile("".join(plain.get(part) or re.escape(part if cased else _lower(part)) for part in pattern), re.DOTALL)


def _patterns(value: Any, modifiers: tuple[str, ...], *, keyword: bool) -> list[Pattern]:
    """What the modifiers, in their order, make of a value: any of these patterns. A keyword is found within."""
    patterns = [_read(value) if isinstance(value, str) else tuple(str(_text(value)))]
    encoding, mark = "utf-8", b""
    for modifier in modifiers:
        if modifier == "windash":
            patterns = [one for pattern in patterns for one in product(*(DASHES if part in DASHES else [part] for part in pattern))]
        elif modifier in TEXT_ENCODINGS:
            encoding, mark = TEXT_ENCODINGS[modifier], b"\xff\xfe" if modifier == "utf16" else b""
        elif modifier == "base64":
            patterns = [_base64(_bytes(pattern, encoding, mark)) for pattern in patterns]
        elif modifier == "base64offset":
            patterns = [one for pattern in patterns for one in _base64_anywhere(_bytes(pattern, encoding, mark))]
        elif modifier == "contains":
            patterns = [(ANY, *pattern, ANY) for pattern in patterns]
        elif modifier == "startswith":
            patterns = [(*pattern, ANY) for pattern in patterns]
        elif modifier == "endswith":
            patterns = [(ANY, *pattern) for pattern in patterns]
    if encoding != "utf-8" and "base64" not in modifiers and "base64offset" not in modifiers:
        patterns = [
            tuple(one for part in pattern for one in ([part] if part in (ANY, ONE) else part.encode(encoding).decode()))
            for pattern in patterns
        ]
    return [(ANY, *pattern, ANY) for pattern in patterns] if keyword else patterns


@cache
def _read(text: str) -> Pattern:
    """The wildcards `*` and `?`; a backslash before one of them or before a backslash makes it plain (rules specification, "Escape Character")."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] in ("*", "?", "\\"):
            position += 1
            parts.append(text[position])
        else:
            parts.append({"*": ANY, "?": ONE}.get(character, character))
        position += 1
    return tuple(parts)


def _bytes(pattern: Pattern, encoding: str, mark: bytes) -> bytes:
    return mark + "".join(pattern).encode(encoding)


def _base64(content: bytes) -> Pattern:
    return tuple(base64.b64encode(content).decode())


def _base64_anywhere(content: bytes) -> Iterator[Pattern]:
    """With 0 to 2 bytes before it, those characters, of six bits each, that hold bits of the content and of nothing else."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + content + bytes(2)).decode()
        first, last = -(-8 * before // 6), 8 * (before + len(content)) // 6
        yield tuple(whole[first:last])


def _searched(expression: str, modifiers: tuple[str, ...], text: str) -> bool:
    return _regex(expression, frozenset(modifiers)).search(text) is not None


@cache
def _regex(expression: str, modifiers: frozenset[str]) -> re.Pattern[str]:
    """As RE2 has it, where without `m` a dollar stands for the very end only, and Python's also for a last line's end."""
    flags = re.IGNORECASE if "i" in modifiers else re.NOFLAG
    flags |= re.MULTILINE if "m" in modifiers else re.NOFLAG
    flags |= re.DOTALL if "s" in modifiers else re.NOFLAG
    tokens = re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", expression, re.DOTALL)
    return re.compile("".join(r"\Z" if token == "$" and "m" not in modifiers else token for token in tokens), flags)


def _refers(one: Any, other: Any, modifiers: tuple[str, ...]) -> bool:
    left, right = _text(one), _text(other)
    if left is None or right is None:
        return False
    left, right = _lower(left), _lower(right)
    if "contains" in modifiers:
        return right in left
    if "startswith" in modifiers:
        return left.startswith(right)
    return left.endswith(right) if "endswith" in modifiers else left == right


# Numbers, times, addresses.


def _number(scalar: Any) -> int | float | None:
    if isinstance(scalar, str):
        return float(scalar) if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", scalar) else None
    return scalar if isinstance(scalar, (int, float)) and not isinstance(scalar, bool) else None


def _compared(comparison: str, value: float, scalar: Any) -> bool:
    number = _number(scalar)
    return number is not None and COMPARED[comparison](number, value)


def _part_of_time(part: str, modifiers: tuple[str, ...], value: float, scalar: Any) -> bool:
    if not isinstance(scalar, str):
        return False
    try:
        moment = datetime.fromisoformat(scalar)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    number = moment.isocalendar().week if part == "week" else getattr(moment, part)
    comparison = next((modifier for modifier in modifiers if modifier in COMPARED), None)
    return COMPARED[comparison](number, value) if comparison else number == value


def _in_network(value: str, scalar: Any) -> bool:
    network = ip_network(value)
    return isinstance(scalar, str) and any(address in network for text in scalar.split(",") for address in _addresses(text.strip()))


def _addresses(text: str) -> list[IPv4Address | IPv6Address]:
    """The address that a text is, and the v4 address that a v6 address stands for."""
    try:
        address = ip_address(text)
    except ValueError:
        return []
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return [address, mapped] if mapped else [address]
