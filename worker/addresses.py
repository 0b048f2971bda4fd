"""Where findings and tasks go, as an operator writes it: sinks with their names, people, and the routes by severity; and a place in a bucket. Pure.

In go the texts of settings, out come values or a `ValueError` that says which part makes no sense; of what may hold a secret it says no more than
the name. A newcomer's sink adds its form in `address`.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from worker.model import Level

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_ARN = re.compile(
    r"arn:aws[a-z-]*:(?:sns:(?P<sns>[a-z0-9-]+):[0-9]{12}:[\w-]{1,256}(?:\.fifo)?"
    r"|events:(?P<events>[a-z0-9-]+):[0-9]{12}:event-bus/[\w./-]{1,256}"
    r"|states:(?P<states>[a-z0-9-]+):[0-9]{12}:stateMachine:[^\s:,]{1,80}(?::[^\s:,]{1,80})?)",
    re.ASCII,
)
_PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9!_.*'()/=-]{0,512}))?", re.ASCII)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ENCODED = "whsec_"
SHORTEST_SECRET_BYTES = 24
"""https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme"""
ALL = "all"
PEOPLE_FROM = Level.HIGH
"""Whom no route names is told of nothing lower: people who are woken for little do not get up for much."""


@dataclass(frozen=True, slots=True)
class Address:
    """A sink as an operator names it. `url` may hold a secret and is never shown."""

    name: str
    url: str = field(repr=False)
    people: bool = False

    @property
    def is_webhook(self) -> bool:
        return self.url.startswith("webhook+")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a bucket. `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Routes:
    """By level the names of the sinks that take it. A level that is not in the table goes to every sink, and to people from high on."""

    table: Mapping[Level, frozenset[str]] = field(default_factory=dict)

    def leads(self, level: Level, to: Address) -> bool:
        """Whether findings of a level go to a sink."""
        names = self.table.get(level)
        if names is None:
            return not to.people or level.rank >= PEOPLE_FROM.rank
        return ALL in names or to.name in names


def sinks(text: str) -> tuple[Address, ...]:
    """The sinks of a list with commas: each an address, or a name, `=` and an address. Without a name it is called by its kind."""
    found = [address(part.strip()) for part in text.split(",") if part.strip()]
    if len({one.url for one in found}) != len(found):
        raise ValueError("names a sink twice")
    return tuple(found)


def address(text: str) -> Address:
    """One sink."""
    before, mark, rest = text.partition("=")
    name, url = (before, rest) if mark and NAME.fullmatch(before) else ("", text)
    scheme, _, tail = url.partition(":")
    kind = None
    if scheme == "stdout" and not tail.strip("/"):
        kind = "stdout"
    elif scheme == "file" and tail.startswith("//") and len(tail) > 2:
        kind = "file"
    elif scheme == "arn" and (arn := _ARN.fullmatch(url)):
        kind = {"sns": "sns", "events": "eventbridge", "states": "stepfunctions"}[arn.lastgroup or ""]
    elif scheme in ("http", "https"):
        kind = "sqs"
        queue_url(url)
    elif scheme.startswith("webhook"):
        kind = "webhook"
        _webhook(name or kind, url)
    if kind is None:
        raise ValueError(
            f"'{name or scheme[:20]}' is no sink: use stdout:, file:///PATH, the https:// URL of an SQS queue, the ARN of an SNS topic, an event bus or a state "
            "machine, or webhook+https://HOST/PATH"
        )
    if name == ALL:
        raise ValueError(f"'{ALL}' stands for every sink and can be the name of none")
    return Address(name or kind, url)


def queue_url(text: str) -> str:
    """The URL of an SQS queue."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(parts.path) < 2:
        raise ValueError(f"'{text}' is not the URL of an SQS queue (https://sqs.REGION.amazonaws.com/ACCOUNT/NAME)")
    return text


def _webhook(name: str, url: str) -> None:
    parts = urlsplit(url.removeprefix("webhook+"))
    if not url.startswith("webhook+") or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the webhook {name} is not webhook+https://HOST/PATH")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(f"the webhook {name} is in the clear: use webhook+https://, http is for loopback alone")


def secret(text: str) -> bytes:
    """A secret to sign with: `whsec_` and Base64, or plain text. The fault does not repeat it."""
    try:
        made = base64.b64decode(text.removeprefix(ENCODED), validate=True) if text.startswith(ENCODED) else text.encode()
    except binascii.Error:
        raise ValueError(f"what follows {ENCODED} is no Base64") from None
    if len(made) < SHORTEST_SECRET_BYTES:
        raise ValueError(f"a secret has at least {SHORTEST_SECRET_BYTES} bytes")
    return made


def people(text: str) -> tuple[Address, ...]:
    """Those to notify: a list with spaces (the URLs may hold commas) of a name, `=` and a URL that the apprise library knows."""
    found: dict[str, Address] = {}
    for part in text.split():
        name, mark, url = part.partition("=")
        if not mark or NAME.fullmatch(name) is None or name == ALL:
            raise ValueError("is no list of NAME=URL with spaces between")
        if name in found:
            raise ValueError(f"names {name} twice")
        if not _is_known(url):
            raise ValueError(f"the URL of {name} is none that apprise knows: see https://appriseit.com/services/")
        found[name] = Address(name, url, people=True)
    return tuple(found.values())


def _is_known(url: str) -> bool:
    """Whether apprise can make something of a URL. It asks nobody."""
    import apprise  # noqa: PLC0415  # costs start-up, and few deployments name people

    hush_apprise()
    return apprise.Apprise.instantiate(url, suppress_exceptions=True) is not None


def hush_apprise() -> None:
    """Have apprise log nothing: what it says of a URL or an answer may hold a credential."""
    log = logging.getLogger("apprise")
    log.propagate, log.handlers = False, [logging.NullHandler()]


def routes(text: str) -> Routes:
    """The routing table: `LEVEL: NAME, NAME; LEVEL: all; LEVEL:`."""
    table: dict[Level, frozenset[str]] = {}
    for row in (row.strip() for row in text.split(";")):
        if not row:
            continue
        told, mark, names = row.partition(":")
        if not mark or told.strip() not in list(Level):
            raise ValueError(f"'{row}' does not begin with a level ({', '.join(Level)}) and a colon")
        level = Level(told.strip())
        if level in table:
            raise ValueError(f"has {level} twice")
        table[level] = frozenset(name.strip() for name in names.split(",") if name.strip())
    return Routes(table)


def unknown(routed: Routes, known: Iterable[Address]) -> list[str]:
    """The names in a routing table that no sink has, sorted."""
    named = {name for names in routed.table.values() for name in names}
    return sorted(named - {one.name for one in known} - {ALL})


def place(text: str) -> Place:
    """`s3://BUCKET/PREFIX`, or a bucket alone."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is not s3://BUCKET/PREFIX, with letters, digits and !_.*'()/=- in its prefix")
    prefix = (found["prefix"] or "").strip("/")
    return Place(found["bucket"], f"{prefix}/" if prefix else "")
