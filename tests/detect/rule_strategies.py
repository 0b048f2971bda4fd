"""Sigma rules and the CloudTrail events that they are asked of, for Hypothesis: whatever the language holds, and near enough to hit.

`case` makes an event and rules written in view of it: fields that it has, values made of its values (cut, cased otherwise, with wildcards,
encoded), and at times values that only look alike. The rules are plain data, as YAML would read them, and every one of them is
a rule that loads. A newcomer who teaches the rules a new modifier adds a line to `ITEMS`.

Not drawn, because it is refused or docs/rules.md leaves it open: look-around, numbers past 2^53, whole numbers written as fractions (YAML
reads 1.10 as 1.1), `utf16` with nothing to encode its bytes, under `windash` dashes that begin no word or are neither hyphen nor slash, and
`re|i` with the letter i, which Python takes for Turkish ones too and RE2 does not.
"""

# ruff: noqa: RUF001  # letters and dashes that look alike are the point

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from hypothesis import strategies as st

Choose = Callable[[int, int], int]
"""A whole number of a range, both ends included: drawn by Hypothesis, which likes small ones, or by a random generator."""
Json = Any
T = TypeVar("T")

LOGSOURCE = {"product": "aws", "service": "cloudtrail"}
SOURCES = ["iam.amazonaws.com", "IAM.amazonaws.com", "ec2.amazonaws.com", "signin.amazonaws.com"]
NAMES = ["DeleteInstanceProfile", "deleteinstanceprofile", "CreateUser", "ConsoleLogin", "List\u212aeys", "ΑΣ", "ας"]
KINDS = ["Root", "root", "IAMUser", "AssumedRole", ""]
PEOPLE = ["bob", "Bob", "arn:aws:iam::123456789012:user/Bob", "arn:aws:sts::123456789012:assumed-role/admin/bob", "bob:session"]
ADDRESSES = ["10.1.2.3", "203.0.113.9", "2001:db8::1", "2001:DB8:1::2", "::ffff:10.1.2.3", "1.2.3.4, 10.0.0.1", "AWS Internal"]
NETWORKS = ["10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32", "2001:db8::/48", "10.1.2.3/32", "0.0.0.0/0", "::/0"]
MOMENTS = [
    "2026-11-02T22:14:31Z",
    "2026-11-02T23:14:31+01:00",
    "2021-01-01T00:59:00.250Z",
    "2024-02-29T12:00:00",
    "2026-11-02",
    "yesterday",
]
LETTERS = [
    "İstanbul",
    "istanbul",
    "IŞIK",
    "ışık",
    "ΟΔΟΣ",
    "οδος",
    "οδοσ",
    "Straße",
    "STRASSE",
    "STRAẞE",
    "ÄPFEL",
    "äpfel",
    "😀 x",
    "e\u0301",
]
SIGNS = ["", "*", "?", "\\", "a*b", "a?b", "a\\*b", "a\\\\b", "c:\\temp\\x", "a.b", "[x]", '"q"', "x\n", "x\ny", "a\u2028b", "%x%", "null"]
COMMANDS = ["cmd -enc abc", "cmd /enc abc", "cmd –enc abc", "rm -rf /x", "rm —rf /x", "c\0m\0d\0", "\0c\0m\0d"]
DOCUMENTS = ['{"Effect":"Allow"}', '{"Action":"*","Effect":"Allow"}', '["x","y"]']
FIGURES = ["443", "1.5", "-3", "+7", "007", "1e3", "true", "False", "0"]
SECRETS = ["cmd", "rm -rf", "Allow", "a*b"]
ENCODINGS = {"utf-8": b"", "utf-16-le": b"", "utf-16-be": b"", "utf-16": b"\xff\xfe"}
ENCODED = {
    (encoding, before): {
        base64.b64encode(b"x" * before + mark + text.encode("utf-16-le" if mark else encoding)).decode(): text for text in SECRETS
    }
    for encoding, mark in ENCODINGS.items()
    for before in range(3)
}
"""What texts look like in Base64, by encoding and the number of bytes before them."""
TEXTS = [*PEOPLE, *ADDRESSES, *MOMENTS, *LETTERS, *SIGNS, *COMMANDS, *DOCUMENTS, *FIGURES, *NAMES, "x", "y", "xy"]
NUMBERS: list[int | float] = [0, 1, -3, 7, 22, 443, 2026, 1.5, -0.25, 2**53]
MEMBERS = ["a", "b", "A", "a.b", "b.c", "c", "name", "Name", "NAME", "ıd", "ID", "ΟΣ", "ος", "userName"]
DASH_BEFORE_WORD = re.compile(r"(?<!\w)[-/–—―](?=\w)")
DASH = re.compile(r"[-/–—―]")


@dataclass(frozen=True, slots=True)
class Case:
    """An event and rules that may match it. The titles of the rules differ, and so do their ids."""

    event: dict[str, Json]
    rules: tuple[dict[str, Any], ...]


def pick(choose: Choose, choices: Sequence[T]) -> T:
    """One of the choices; for lists made anew for each event much faster than `sampled_from`."""
    return choices[choose(0, len(choices) - 1)]


def chance(choose: Choose, one_in: int) -> bool:
    """Once in so many times; the simplest case is no."""
    return choose(0, one_in - 1) == one_in - 1


# Events.

ODD: list[Json] = [None, 7, True, [], {}, ["iam.amazonaws.com"], ["Root", None], {"type": "Root"}, [["ΑΣ"]]]
AGENTS = [*COMMANDS * 4, *SIGNS * 2, *(text for texts in ENCODED.values() for text in texts)]
NOTHING = "no member at all"


def tree(choose: Choose, depth: int = 3) -> Json:
    """Any JSON: mostly objects and lists near the root, texts and numbers further in."""
    kind = pick(choose, ["text", "text", "sign", "other", *(["list", "object", "object"] if depth else [])])
    match kind:
        case "list":
            return [tree(choose, depth - 1) for _ in range(choose(0, 3))]
        case "object":
            return {pick(choose, MEMBERS): tree(choose, depth - 1) for _ in range(choose(0, 3))}
    return pick(choose, {"text": TEXTS, "sign": SIGNS}.get(kind, [*NUMBERS, True, False, None, None]))


def parameters(choose: Choose) -> Json:
    """`requestParameters`: null, an object, or lists of objects."""
    objects = [{pick(choose, MEMBERS): tree(choose, 2) for _ in range(choose(0, 3))} for _ in range(choose(1, 2))]
    return pick(choose, [None, objects[0], objects[0], objects[0], objects, [objects], [], tree(choose)])


def usually(choose: Choose, texts: Sequence[Json]) -> Json:
    """Mostly one of the texts, now and then nothing, or what nobody expects there."""
    if chance(choose, 6):
        return pick(choose, [NOTHING, NOTHING, NOTHING, *ODD])
    return pick(choose, texts)


def identity(choose: Choose) -> Json:
    """`userIdentity`: an object, with members missing and spelt otherwise, or none."""
    if chance(choose, 8):
        return pick(choose, [NOTHING, NOTHING, *ODD, [{"type": "Root"}, {"type": "IAMUser"}]])
    members = {
        "type": usually(choose, KINDS),
        "arn": usually(choose, PEOPLE),
        "userName": usually(choose, PEOPLE),
        "sessionContext": pick(choose, [NOTHING, {"attributes": {"mfaAuthenticated": "false"}}, {"sessionIssuer": {}}]),
        pick(choose, ["Type", "x"]): usually(choose, KINDS),
    }
    return {name: value for name, value in members.items() if value != NOTHING}


def drawn_event(choose: Choose) -> dict[str, Json]:
    """A CloudTrail event, or what somebody sends for one. It has a member at least."""
    members = {
        "eventSource": usually(choose, SOURCES),
        "eventName": usually(choose, NAMES),
        "userIdentity": identity(choose),
        "eventTime": usually(choose, MOMENTS),
        "sourceIPAddress": usually(choose, [*ADDRESSES, ADDRESSES[:2], ADDRESSES[2:]]),
        "userAgent": usually(choose, AGENTS),
        "errorCode": pick(choose, [NOTHING, NOTHING, None, "AccessDenied", "Client.UnauthorizedOperation"]),
        "readOnly": pick(choose, [True, False, "false", NOTHING]),
        "requestParameters": parameters(choose),
    }
    if chance(choose, 4):
        added = pick(choose, ["EventName", "EVENTSOURCE", "userIdentity.type", "useridentity", "requestParameters.a", "a.b", "a"])
        members[added] = tree(choose) if chance(choose, 2) else pick(choose, [*SOURCES, *NAMES, *KINDS])
    if chance(choose, 5):
        spelt = pick(choose, ["eventSource", "eventName", "userIdentity", "userIdentity", "eventTime"])
        members[spelt.swapcase()] = members.pop(spelt)
    elif chance(choose, 8) and isinstance(members["userIdentity"], dict):
        members.update({f"userIdentity.{name}": value for name, value in members.pop("userIdentity").items()})
    return {name: value for name, value in members.items() if value != NOTHING}


def places(value: Json, path: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every field of an event and what is there: lists as they are, and their elements too."""
    if path:
        yield ".".join(path), value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, (dict, list)):
                yield from places(inner, path)
            elif path:
                yield ".".join(path), inner


def text_of(value: Json) -> str | None:
    """How a scalar is written; nothing for null, objects and lists."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int, float)) else None


def texts_within(value: Json) -> list[str]:
    """Every text anywhere in a value."""
    if isinstance(value, (dict, list)):
        return [text for inner in (value.values() if isinstance(value, dict) else value) for text in texts_within(inner)]
    text = text_of(value)
    return [] if text is None else [text]


# Values.


Place = tuple[str, Json]
"""A field of an event, and what is there."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a rule's item is aimed at: what its field holds, the texts in that, and every place of the event."""

    value: Json
    texts: list[str]
    places: list[Place]


Values = Callable[[Choose, Aim], Json]
Fits = Callable[[Json], bool]


def anything(_: Json) -> bool:
    """Any value will do."""
    return True


@dataclass(frozen=True, slots=True)
class Item:
    """Modifiers, the values that go with them, and what a field should hold for them to have something to say of it."""

    chain: str
    values: Values
    fits: Fits = anything


def aimed(choose: Choose, aim: Aim, kind: str = "whole") -> str:
    """A plain text: mostly of the field, or a part of one (`within`, `start`, `end`); at times another."""
    whole = pick(choose, TEXTS if not aim.texts or chance(choose, 8) else aim.texts)
    if kind == "whole":
        return whole
    first = 0 if kind == "start" else choose(0, max(len(whole) - 1, 0))
    last = len(whole) if kind == "end" else choose(first, len(whole))
    return whole[first:last]


def recased(choose: Choose, text: str) -> str:
    """The text, at times in another case."""
    return pick(choose, [text, text, text.swapcase(), text.upper(), text.lower()])


def escaped(text: str) -> str:
    """A text as a rule writes it: wildcards and backslashes are plain."""
    return "".join("\\" + one if one in "*?\\" else one for one in text)


def wild(choose: Choose, text: str) -> str:
    """The text as it is, or escaped, or with wildcards for some of it."""
    how = pick(choose, ["escaped", "escaped", "escaped", "as it is", "star", "mark", "start", "end", "both"])
    first = choose(0, len(text)) if how in ("star", "mark", "start", "both") else 0
    last = choose(first, len(text)) if how in ("star", "end", "both") else first + 1
    match how:
        case "as it is":
            return text
        case "star" | "mark":
            return escaped(text[:first]) + ("*" if how == "star" else "?") + escaped(text[last:])
        case "start" | "end" | "both":
            return ("*" if how != "end" else "") + escaped(text[first : None if how == "start" else last]) + ("*" if how != "start" else "")
    return escaped(text)


def plain_values(choose: Choose, aim: Aim) -> Json:
    """A value without modifiers: mostly a text."""
    if chance(choose, 4):
        return pick(choose, [None, True, False, *NUMBERS])
    return wild(choose, recased(choose, aimed(choose, aim)))


def values_as_they_are(choose: Choose, aim: Aim) -> Json:
    """The field's number, bool or null itself, or its like of another type."""
    value = aim.value if no_text(aim.value) else pick(choose, [None, True, False])
    return pick(choose, [value, value, value, not value, text_of(value) or "", None])


def parts_of_lists(choose: Choose, aim: Aim) -> str:
    """Values that one field may all have: its texts whole, or wildcards about a part."""
    return "*" + escaped(recased(choose, aimed(choose, aim, "within"))) + "*" if chance(choose, 2) else plain_text(choose, aim)


def plain_text(choose: Choose, aim: Aim) -> str:
    """A text that the field holds, and nothing else."""
    return escaped(recased(choose, aimed(choose, aim)))


def texts(kind: str) -> Values:
    """Parts of the field's texts, with wildcards; at times from another place or in another case than will do."""

    def values(choose: Choose, aim: Aim) -> str:
        return wild(choose, recased(choose, aimed(choose, aim, "within" if chance(choose, 3) else kind)))

    return values


def dashed(choose: Choose, aim: Aim) -> str:
    """A part with hyphens or slashes for its dashes, of which each begins a word; in front of it there is no word."""
    text = escaped(recased(choose, aimed(choose, aim, pick(choose, ["whole", "start"]))))
    if len(DASH.findall(text)) == len(DASH_BEFORE_WORD.findall(text)) <= 2:
        return DASH.sub(pick(choose, "-/"), text)
    return pick(choose, ["-enc", "/enc", " -rf /x", "cmd -enc", "x"])


def secrets(encoding: str, *, anywhere: bool = False) -> Values:
    """What the field's text is the Base64 of, or holds the Base64 of a part of."""

    def values(choose: Choose, aim: Aim) -> str:
        found = [
            known[text] for text in aim.texts for before in range(3 if anywhere else 1) if text in (known := ENCODED[encoding, before])
        ]
        text = pick(choose, found or SECRETS)
        if anywhere and chance(choose, 2):
            first = choose(0, len(text) - 2)
            text = text[first : choose(first + 2, len(text))]
        return escaped(text)

    return values


def expressions(choose: Choose, aim: Aim) -> str:
    """A regular expression of what RE2, PCRE and Python have in common and mean alike, of plain ASCII."""
    near = [text for text in aim.texts if text.isascii() and "\0" not in text] or ["x\ny"]
    text = aimed(choose, Aim(aim.value, near, []), pick(choose, ["whole", "within", "start", "end"]))
    pieces = [re.escape(one) for one in (text if text.isascii() and "\0" not in text else "x")]
    if pieces:
        place = choose(0, len(pieces) - 1)
        one = pieces[place]
        pieces[place] = pick(
            choose, [one, ".", f"({one}|q)", one + "?", one + "*", one + "+", one + "{1,2}", "[^ %]", "[" + one + "_]", "[a-z0-9]"]
        )
    body = "".join(pieces)
    return pick(choose, [body, body, "^" + body, body + "$", "^" + body + "$", body + "|zz"])


def expressions_in_any_case(choose: Choose, aim: Aim) -> str:
    """Likewise for `i`, without the letter i; and what stands in a class or for itself may be in another case."""
    return re.sub("[iI]", ".", recased(choose, expressions(choose, aim)))


def networks(choose: Choose, aim: Aim) -> str:
    """A network, mostly one that the address is in."""
    known = []
    for text in (part.strip() for whole in aim.texts for part in whole.split(",")):
        try:
            address = ip_address(text)
        except ValueError:
            continue
        known.append(str(ip_network((address, choose(0, address.max_prefixlen)), strict=False)))
    return pick(choose, NETWORKS if not known or chance(choose, 3) else known)


def numbers(choose: Choose, aim: Aim) -> int | float:
    """A number at or about the field's, or another."""
    near = [int(text) for text in aim.texts if re.fullmatch(r"-?[0-9]{1,9}", text)]
    return pick(choose, near) + pick(choose, [0, 0, 1, -1]) if near and not chance(choose, 4) else pick(choose, NUMBERS)


def part_of_time(part: str) -> Values:
    """The minute, hour, ... of the field's moment, or near it, or another."""

    def values(choose: Choose, aim: Aim) -> int:
        try:
            moment = datetime.fromisoformat(aim.texts[0])
        except (IndexError, ValueError):
            return choose(0, 59)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        number = moment.isocalendar().week if part == "week" else int(getattr(moment, part))
        return number + pick(choose, [0, 0, 1, -1])

    return values


def other_fields(choose: Choose, aim: Aim) -> str:
    """The name of a field, mostly of one whose text is also in this one."""
    held = "\n".join(aim.texts).lower()
    near = [name for name, value in aim.places if (text := text_of(value)) and text.lower() in held]
    return pick(choose, near if near and not chance(choose, 4) else [*(name for name, _ in aim.places), "nowhere"])


# Items.


def no_text(value: Json) -> bool:
    """A number, true, false or null."""
    return value is None or isinstance(value, (bool, int, float))


def like(pattern: str) -> Fits:
    """A scalar whose text has something of the pattern."""
    sought = re.compile(pattern)
    return lambda value: sought.search(text_of(value) or "") is not None


def encoded(encoding: str, at_most: int = 1) -> Fits:
    """One of `ENCODED`, with fewer bytes before it than these."""
    return lambda value: any(value in ENCODED[encoding, before] for before in range(at_most) if isinstance(value, str))


ADDRESS, FIGURE, MOMENT, DASHED, WIDE, SPECIAL = (
    like(pattern) for pattern in (r"[0-9]\.[0-9]|::", r"^[-+0-9.]+$", "^[0-9]{4}-", DASH_BEFORE_WORD.pattern, "\0", r"[*?\\]")
)
WHOLE, WITHIN, START, END = (texts(kind) for kind in ("whole", "within", "start", "end"))
ITEMS: list[Item] = [
    *[Item("", plain_values)] * 5,
    Item("", values_as_they_are, no_text),
    Item("", plain_values, SPECIAL),
    Item("contains", WITHIN, SPECIAL),
    Item("neq", plain_values),
    Item("all", parts_of_lists),
    Item("contains", WITHIN),
    Item("contains|all", WITHIN),
    Item("contains|neq", WITHIN),
    Item("startswith", START),
    Item("endswith", END),
    Item("startswith|endswith", WITHIN),
    Item("endswith|all", END),
    Item("cased", WHOLE),
    Item("contains|cased", WITHIN),
    Item("cased|startswith", START),
    Item("re", expressions),
    Item("re|i", expressions_in_any_case),
    Item("re|m", expressions),
    Item("re|s", expressions),
    Item("re|i|m|s", expressions_in_any_case),
    Item("re|all", expressions),
    Item("re|neq", expressions),
    Item("exists", lambda choose, _: not chance(choose, 2)),
    Item("cidr", networks, ADDRESS),
    Item("cidr|neq", networks, ADDRESS),
    Item("base64", secrets("utf-8"), encoded("utf-8")),
    Item("base64|contains", secrets("utf-8"), encoded("utf-8")),
    Item("base64|cased", secrets("utf-8"), encoded("utf-8")),
    Item("base64offset", secrets("utf-8"), encoded("utf-8")),
    Item("base64offset|contains", secrets("utf-8", anywhere=True), encoded("utf-8", 3)),
    Item("utf16|base64", secrets("utf-16"), encoded("utf-16")),
    Item("utf16|base64offset|contains", secrets("utf-16"), encoded("utf-16", 3)),
    Item("utf16be|base64", secrets("utf-16-be"), encoded("utf-16-be")),
    Item("utf16be|base64offset|contains", secrets("utf-16-be", anywhere=True), encoded("utf-16-be", 3)),
    Item("wide|base64", secrets("utf-16-le"), encoded("utf-16-le")),
    Item("wide|base64offset|contains", secrets("utf-16-le", anywhere=True), encoded("utf-16-le", 3)),
    Item("wide|contains", lambda choose, _: pick(choose, ["cmd", "C", "m?", "*d", "x"]), WIDE),
    Item("windash", dashed, DASHED),
    Item("windash|contains", dashed, DASHED),
    Item("windash|contains|all", dashed, DASHED),
    *(Item(comparison, numbers, FIGURE) for comparison in ("lt", "lte", "gt", "gte", "gte|neq", "lt|all")),
    *(Item(part, part_of_time(part), MOMENT) for part in ("minute", "hour", "day", "week", "month", "year")),
    *(Item(f"hour|{comparison}", part_of_time("hour"), MOMENT) for comparison in ("lt", "lte", "gt", "gte", "neq")),
    *(Item("fieldref" + more, other_fields) for more in ("", "|contains", "|startswith", "|endswith", "|neq", "|all")),
]
KEYWORDS = [
    Item("all", WITHIN),
    Item("re", expressions),
    Item("cased", WITHIN),
    Item("contains", WITHIN),
    Item("cidr", networks),
    Item("windash|all", dashed),
    Item("base64offset|contains", secrets("utf-8", anywhere=True)),
]
MODIFIERS = sorted({modifier for one in ITEMS for modifier in one.chain.split("|") if modifier})
USUAL_FIELDS = ["eventSource", "eventName", "userIdentity.type"]


def item(choose: Choose, places: list[Place], choices: Sequence[Item] = ITEMS) -> tuple[str, Json]:
    """A field with modifiers, and its value or values; mostly modifiers that have something to say of an event with these places."""
    chosen = pick(choose, choices)
    if not any(chosen.fits(value) for _, value in places):
        chosen = pick(choose, [one for one in choices if any(one.fits(value) for _, value in places)] or [chosen])
    near = [place for place in places if chosen.fits(place[1])]
    usual = [place for place in near if place[0] in USUAL_FIELDS]
    field, value = pick(choose, usual if usual and chance(choose, 2) else near or places)
    if chance(choose, 12):
        field, value = pick(choose, ["nowhere", "requestParameters.name", "userIdentity.type", "a.b"]), None
    spelt = pick(choose, [field, field, field, field, field.upper(), field.lower()])
    aim = Aim(value, texts_within(value), places)
    return "|".join(part for part in (spelt, chosen.chain) if part), one_or_several(choose, chosen, aim)


def one_or_several(choose: Choose, chosen: Item, aim: Aim) -> Json:
    """A value or a list; `all` goes with two values at least."""
    several = "all" in chosen.chain.split("|")
    if not several and chance(choose, 2):
        return chosen.values(choose, aim)
    return [chosen.values(choose, aim) for _ in range(choose(2 if several else 1, 3))]


def items(choose: Choose, places: list[Place]) -> dict[str, Json]:
    """A map of items, at times with a demand that the index can use."""
    chosen = dict(item(choose, places) for _ in range(pick(choose, [1, 1, 1, 2, 3])))
    for field in USUAL_FIELDS:
        told = [value for name, value in places if name.lower() == field.lower() and isinstance(value, str)]
        if told and chance(choose, 3):
            literal = escaped(recased(choose, told[0]))
            chosen[field] = literal if chance(choose, 2) else [pick(choose, [*SOURCES, *NAMES, *KINDS]), literal]
    return chosen


def keywords(choose: Choose, aim: Aim) -> Json:
    """Words to be found anywhere: a list, one alone, or with modifiers."""
    if chance(choose, 2):
        chosen = pick(choose, KEYWORDS)
        return {"|" + chosen.chain: one_or_several(choose, chosen, aim)}
    words = [pick(choose, [443, 1.5, True]) if chance(choose, 6) else WITHIN(choose, aim) for _ in range(choose(1, 3))]
    return words[0] if len(words) == 1 and words[0] else words


def definition(choose: Choose, event: dict[str, Json], places: list[Place]) -> Json:
    """What stands under the name of a detection: a map, keywords, or a list of maps and words."""
    match pick(choose, ["map", "map", "map", "map", "list of maps", "keywords", "both"]):
        case "map":
            return items(choose, places)
        case "list of maps":
            return [items(choose, places) for _ in range(choose(1, 3))]
        case "keywords":
            return keywords(choose, Aim(None, texts_within(event), []))
    return [items(choose, places), WITHIN(choose, Aim(None, [], []))]


# Rules.

DETECTIONS = ["selection", "sel_a", "sel_b", "filter_x", "_hidden"]
TERMS = [
    "1 of them",
    "all of them",
    "any of them",
    "1 of sel*",
    "all of sel*",
    "1 of *_*",
    "all of _*",
    "1 of *",
    "1 of filter_*",
    "any of s*_*b",
]


def means_any(term: str, names: list[str]) -> bool:
    """Whether a term such as `1 of sel*` means any of the detections; one that means none is refused."""
    pattern = term.rsplit(" ", 1)[1]
    meant = ".*" if pattern == "them" else pattern.replace("*", ".*")
    return any(re.fullmatch(meant, name) for name in names if pattern.startswith("_") or not name.startswith("_"))


def condition(choose: Choose, terms: list[str], depth: int = 2) -> str:
    """A condition over some detections, of any form."""
    form = pick(choose, ["{}", "{}", "{}", "{} and {}", "{} or {}", "not {}", "({})", "{} and not {}"]) if depth else "{}"
    if form == "{}":
        return pick(choose, terms)
    return form.format(*(condition(choose, terms, depth - 1) for _ in range(form.count("{}"))))


def rule(choose: Choose, event: dict[str, Json], title: str) -> dict[str, Any]:
    """A rule written in view of an event."""
    names = ["selection", *(name for name in DETECTIONS[1:] if chance(choose, 4))]
    terms = [*names, *names, *(term for term in TERMS if means_any(term, names))]
    there = list(places(event))
    detection = {name: definition(choose, event, there) for name in names}
    detection["condition"] = [condition(choose, terms), condition(choose, terms)] if chance(choose, 6) else condition(choose, terms)
    return {"title": title, "logsource": LOGSOURCE, "detection": detection}


def case(choose: Choose, most: int = 1) -> Case:
    """An event and up to `most` rules."""
    event = drawn_event(choose)
    return Case(event, tuple(rule(choose, event, f"Rule {number}") for number in range(choose(1, most))))


def single_item(choose: Choose, modifier: str) -> Case:
    """An event and a rule of one item with a modifier (empty: with none)."""
    event = drawn_event(choose)
    chosen = pick(choose, [one for one in ITEMS if modifier in one.chain.split("|")])
    if not any(chosen.fits(value) for _, value in places(event)):
        event["userAgent"] = pick(choose, [one for one in [*AGENTS, *ADDRESSES, *MOMENTS, *FIGURES, None] if chosen.fits(one)])
    key, value = item(choose, list(places(event)), [chosen])
    return Case(event, ({"title": "Rule", "logsource": LOGSOURCE, "detection": {"selection": {key: value}, "condition": "selection"}},))


@st.composite
def cases(draw: st.DrawFn, *, most: int = 1) -> Case:
    """What `case` makes, drawn and made smaller by Hypothesis."""
    return case(lambda first, last: draw(st.integers(first, last)), most)
