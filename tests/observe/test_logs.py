"""Logs are JSON for machines, lines for people, and nobody's data can forge a line."""

from __future__ import annotations

import contextlib
import io

import orjson
import pytest
import structlog

from worker.observe import logs


@pytest.fixture(autouse=True)
def as_before():
    yield
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_what_is_bound():
    """Time, level and event are there, and so is the message in hand."""
    stream = io.StringIO()
    log = logs.configure("info", stream)
    with structlog.contextvars.bound_contextvars(message_id="m-1"):
        log.info("finding", subject="web\nlevel=error")
    log.debug("hidden")
    (line,) = stream.getvalue().splitlines()
    told = orjson.loads(line)
    assert (told["event"], told["level"], told["message_id"], told["subject"]) == ("finding", "info", "m-1", "web\nlevel=error")
    assert told["timestamp"].endswith("Z")


def test_people_get_one_line_an_event_without_control_characters():
    """An attacker's line break or escape sequence stays text."""
    stream = io.StringIO()
    logs.configure("info", stream, for_people=True).info("finding", subject="web\nforged \x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in stream.getvalue()


def test_a_full_disk_is_no_reason_to_stop():
    """A stream that takes nothing more loses the line, not the worker."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        logs.configure("info", full).info("x")
        with contextlib.suppress(OSError):
            full.close()


def test_any_value_can_be_logged():
    """A value that JSON has no form for is told by its repr."""
    stream = io.StringIO()
    logs.configure("info", stream).info("x", value=object(), bad="\ud800")
    assert orjson.loads(stream.getvalue())["event"] == "x"
