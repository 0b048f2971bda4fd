"""What the text of one variable says: pure, each function reads one form and raises `ValueError` with what is wrong about the text.

A newcomer whose setting has a form of its own adds a function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker import addresses
from worker.modes import ANY, Lock, Mode, Scope

SHORTEST_PERIOD_SECONDS, LONGEST_PERIOD_SECONDS = 60.0, 604_800.0
"""Of snapshots: an account is not asked for all that it has more often than each minute."""
MAX_PORT = 65_535
ARN_COLONS = 5
LONGEST_PATTERN = 1024
"""What `worker/glob.py` takes."""
LONGEST_TAG = 128 + 1 + 256
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html"""


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int


def listed(text: str) -> tuple[str, ...]:
    """The parts between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def patterns(text: str) -> tuple[str, ...]:
    """Patterns of names and ARNs between commas."""
    named = listed(text)
    for one in named:
        if len(one) > LONGEST_PATTERN:
            raise ValueError(f"'{one[:50]}...' has more than {LONGEST_PATTERN} characters")
    return named


def principals(text: str) -> tuple[str, ...]:
    """Patterns of names and ARNs of principals between commas. One that could fit nobody is told: whom it was to spare would not be spared."""
    named = patterns(text)
    for one in named:
        if one.lower().startswith("arn:") and one.count(":") < ARN_COLONS:
            raise ValueError(f"'{one}' fits no ARN, which has six parts with colons between them, such as arn:aws:iam::*:user/NAME")
    return named


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,15}", text):
            raise ValueError(f"'{text}' is not a whole number")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is not between {low} and {high}")
        return number

    return parse


def processes(text: str) -> int | None:
    """A number of processes, or None for `auto`."""
    return None if text.lower() == "auto" else whole(1, 128)(text)


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a number of seconds") from None
        if not low <= number <= high:
            raise ValueError(f"{text} is not between {low:g} and {high:g} seconds")
        return number

    return parse


def flag(text: str) -> bool:
    """Yes or no, in any of the usual words."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(f"'{text}' is neither true nor false")
    return words[text.lower()]


def mode(text: str) -> Mode:
    """One of the modes."""
    try:
        return Mode(text.lower())
    except ValueError:
        raise ValueError(f"'{text}' is none of {', '.join(Mode)}") from None


def scopes(text: str) -> tuple[Scope, ...]:
    """A list with commas of `ACTION` or `ACTION@ACCOUNT`, where `*` stands for any. Whether there are such actions is not known here."""
    return tuple(_scope(part) for part in listed(text))


def modes(text: str) -> tuple[tuple[Scope, Mode], ...]:
    """A list with commas of `ACTION=MODE` or `ACTION@ACCOUNT=MODE`."""
    found: list[tuple[Scope, Mode]] = []
    for part in listed(text):
        where, mark, name = part.rpartition("=")
        if not mark:
            raise ValueError(f"'{part}' is not ACTION=MODE or ACTION@ACCOUNT=MODE")
        scope = _scope(where.strip())
        if scope in (one for one, _ in found):
            raise ValueError(f"'{where.strip()}' has two modes")
        found.append((scope, mode(name.strip())))
    return tuple(found)


def _scope(text: str) -> Scope:
    action, mark, account = text.partition("@")
    if not re.fullmatch(r"\*|[a-z]+(-[a-z]+)*", action):
        raise ValueError(f"'{text}' does not begin with the name of an action, or * for any")
    if mark and not re.fullmatch(r"\*|[0-9]{12}", account, re.ASCII):
        raise ValueError(f"'{account}' in '{text}' is not the id of an AWS account, which has 12 digits, nor * for any")
    return Scope(action, account if mark else ANY)


def lock(text: str) -> Lock:
    """One of the locks."""
    try:
        return Lock(text.lower())
    except ValueError:
        raise ValueError(f"'{text}' is none of {', '.join(Lock)}") from None


def secrets(text: str) -> tuple[bytes, ...]:
    """Secrets with blanks between them, the newest first."""
    return tuple(addresses.secret(part) for part in text.split())


def tag_patterns(text: str) -> tuple[str, ...]:
    """Patterns of tags between commas, each `KEY` or `KEY=VALUE`."""
    named = listed(text)
    for one in named:
        if one.startswith("=") or len(one) > LONGEST_TAG:
            raise ValueError(f"'{one[:50]}' is not KEY or KEY=VALUE, as a tag has them")
    return named


def parameter_name(text: str) -> str:
    """The name of a parameter in Systems Manager, or the ARN of one that another account shares."""
    if not re.fullmatch(r"[A-Za-z0-9_.:/-]{1,2048}", text):
        raise ValueError(f"'{text[:50]}' is not the name of a parameter, such as /trailmend/stop")
    return text


def folder(text: str) -> Path:
    """A folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise ValueError(f"'{text}' is not a folder that can be read")
    return path


def state(text: str) -> str:
    """The URL of a store."""
    scheme, mark, rest = text.partition("://")
    if mark and scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return text
    if mark and scheme == "dynamodb" and re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", rest):
        return text
    raise ValueError(f"'{text}' is neither sqlite:///PATH (relative) or sqlite:////PATH (absolute) nor dynamodb://TABLE")


def http_address(text: str) -> HttpAddress:
    """`HOST:PORT`."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError(f"'{text}' is not HOST:PORT, such as 0.0.0.0:9464")
    return HttpAddress(host.strip("[]"), int(port))


def role_name(text: str) -> str:
    """The name of a role, with its path where it has one."""
    if not re.fullmatch(r"[\w+=,.@/-]{1,128}", text, re.ASCII) or text.startswith("arn:"):
        raise ValueError(f"'{text}' is not the name of a role (a name, not an ARN: the account is put in for each member)")
    return text


def accounts(text: str) -> tuple[str, ...]:
    """Account ids between commas."""
    named = listed(text)
    for account in named:
        if not re.fullmatch(r"[0-9]{12}", account, re.ASCII):
            raise ValueError(f"'{account}' is not the id of an AWS account, which has 12 digits")
    return named


def period(text: str) -> float:
    """A number of seconds from `SHORTEST_PERIOD_SECONDS` to `LONGEST_PERIOD_SECONDS`, or 0 for never."""
    length = seconds(0, LONGEST_PERIOD_SECONDS)(text)
    if 0 < length < SHORTEST_PERIOD_SECONDS:
        raise ValueError(f"{text} is neither 0 (never) nor {SHORTEST_PERIOD_SECONDS:g} seconds or more")
    return length


def regions(text: str) -> tuple[str, ...]:
    """Regions between commas."""
    named = listed(text)
    for region in named:
        if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", region):
            raise ValueError(f"'{region}' is not the name of an AWS region, such as eu-west-1")
    return named


def pattern(text: str) -> str:
    """A regular expression that RE2 accepts."""
    import re2  # noqa: PLC0415  # costs 15 ms of start-up and few deployments set a pattern

    try:
        re2.compile(text)
    except re2.error as fault:
        raise ValueError(f"'{text}' is not a regular expression that RE2 accepts: {fault}") from None
    return text


def log_level(text: str) -> str:
    """The name of a log level."""
    levels = ("debug", "info", "warning", "error")
    if text.lower() not in levels:
        raise ValueError(f"'{text}' is none of {', '.join(levels)}")
    return text.lower()
