"""Logs: structlog, JSON lines on stderr; on a terminal, lines for a person.

Every event has `timestamp` (UTC, ISO 8601), `level` and `event` (a snake_case name that never changes with its values), and whatever is
bound while it happens: `message_id`, `bucket`, `key`, `finding_id`. Values from records are data, never part of the event's name.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Protocol, TextIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger


class TextStream(Protocol):
    """What logs are written to: a file of text will do."""

    def write(self, data: str, /) -> int: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


def configure(level: str, stream: TextStream, *, for_people: bool | None = None) -> FilteringBoundLogger:
    """Set structlog up to write to `stream` at `level` (debug, info, warning, error) and answer the worker's logger.

    `for_people` picks the coloured form; by default a terminal gets it and anything else gets JSON.
    """
    people = stream.isatty() if for_people is None else for_people
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if people:
        last = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24)]
    else:
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(serializer=_dumps)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Forgiving(stream))),
        cache_logger_on_first_use=False,
    )
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


class _Forgiving:
    """A stream that takes a full disk or a closed pipe in silence: no log line is worth more than the worker."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _dumps(value: object, **_: object) -> str:
    try:
        return orjson.dumps(value, default=repr).decode()
    except TypeError:  # a lone surrogate, which orjson refuses: no line is worth more than the worker
        return json.dumps(value, default=repr, ensure_ascii=False).encode(errors="replace").decode()
