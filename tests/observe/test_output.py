"""Lines of several processes on one pipe stay lines."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import PATIENCE_SECONDS
from worker.observe.output import Output

WRITER = """
import sys
from pathlib import Path
from worker.observe.output import Output
output = Output(1, Path(sys.argv[1]))
for _ in range(40):
    output.write(sys.argv[2] * 65_536)
    output.write("\\n")
"""


def test_long_lines_of_two_processes_do_not_mix(tmp_path):
    """Sixteen times what a pipe takes at once, and each line is one writer's."""
    read, write = os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "lock"), letter], stdout=write, env={**os.environ, "PYTHONPATH": "."}
        )
        for letter in "ab"
    ]
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [writer.wait(PATIENCE_SECONDS) for writer in writers] == [0, 0]
    assert sorted(lines) == [b"a" * 65_536] * 40 + [b"b" * 65_536] * 40


def test_what_is_written_is_there_at_once(tmp_path):
    """Nothing but a line without its end is kept back."""
    path = tmp_path / "out"
    with path.open("wb") as file:
        output = Output(file.fileno())
        output.write("one\ntw")
        assert path.read_bytes() == b"one\n"
        output.write(b"o\n")
        output.flush()
        assert path.read_bytes() == b"one\ntwo\n"
        assert not output.isatty()


def test_a_closed_pipe_is_an_os_error(tmp_path):
    """As a file tells it, so that a sink can say that it took nothing; the lock is free again."""
    read, write = os.pipe()
    os.close(read)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            Output(write, tmp_path / "lock").write(b"x\n")
    os.close(write)
