"""Holds every test to the policy: a test in which the product calls AWS outside of what it states, here or in a child process, fails.

A plugin of `conftest.py`, which works with pytest-xdist too. And the other way round: once the whole suite has run, whatever the parts state and no
test ever had them call is told, and fails the run: the policy would then grant more than is known to be of use. `--calls` tells that of any run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import recorder

SITE = """import importlib.util
spec = importlib.util.spec_from_file_location("recorder", {path!r})
recorder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recorder)
recorder.follow({folder!r})
"""

RECORDER = recorder.follow(None)

Call = tuple[str, str]
"""A part and a call that it made."""
FACT = "fact "


class Watch:
    """What one pytest process and its children were seen to call, from their file."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="trailmend-calls-"))
        (self.folder / "sitecustomize.py").write_text(SITE.format(path=recorder.__file__, folder=str(self.folder)))
        self.path_before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.folder), self.path_before)))
        self.seen: set[Call] = set()
        self._read = 0
        RECORDER.folder = str(self.folder)

    def faults(self) -> list[str]:
        """Those told since the last time, each once."""
        file = self.folder / recorder.FILE
        if not file.exists():
            return []
        with file.open("rb") as stream:
            stream.seek(self._read)
            told = stream.read()
        lines = told[: told.rfind(b"\n") + 1]
        self._read += len(lines)
        faults = []
        for line in lines.decode().splitlines():
            part, call, fault = line.split("\t")
            if not fault and (part, call) not in self.seen:
                self.seen.add((part, call))
                fault = ungranted(part, call)
            if fault:
                faults.append(fault)
        return list(dict.fromkeys(faults))

    def close(self) -> None:
        if self.path_before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = self.path_before
        RECORDER.folder = None
        shutil.rmtree(self.folder)


def ungranted(part: str, call: str) -> str:
    """What the policy of whoever runs a part lacks for a call of it, with everything enabled; empty where it lacks nothing."""
    from tests.everything import ROLES_OF, demanded, granted  # it loads the whole product, which not every test does

    roles = next((roles for begins, roles in ROLES_OF.items() if part.startswith(begins)), None)
    if roles is None:
        return f"{part} calls {call}, and nobody has said who runs it: add it to ROLES_OF in tests/everything.py"
    lacking = demanded(call) - set().union(*(granted(role) for role in roles))
    return f"{part} calls {call}, and the policy of {', '.join(roles)} lacks {', '.join(sorted(lacking))}" if lacking else ""


WATCH = pytest.StashKey[Watch]()
MADE = pytest.StashKey[set[Call]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--calls", action="store_true", help="tell at the end which calls to AWS the policy grants and no test made")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MADE] = set()
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.stash[WATCH] = Watch()


@pytest.fixture(autouse=True)
def _within_policy(request: pytest.FixtureRequest) -> Iterator[None]:
    """No call outside of what the product states, by the end of a test."""
    yield
    faults = request.config.stash[WATCH].faults()
    if faults:
        pytest.fail("\n".join(["called outside of the policy:", *faults]), pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes has ended."""
    made = getattr(node, "workeroutput", {}).get("calls", [])
    node.config.stash[MADE].update((part, call) for part, call in made)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    watch = config.stash.get(WATCH, None)
    if watch is not None:
        late = watch.faults()
        config.stash[MADE] |= watch.seen
        watch.close()
        if late:  # a child process outlived its test
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            sys.stderr.write("\n".join(["", "called outside of the policy:", *late, ""]))
    if hasattr(config, "workerinput"):
        made = config.stash[MADE]
        config.workeroutput["calls"] = sorted(made)  # type: ignore[attr-defined]  # pytest-xdist's
    elif _is_whole(config) and session.exitstatus == pytest.ExitCode.OK and unmade(config.stash[MADE]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not (config.getoption("calls") or _is_whole(config)):
        return
    left = unmade(config.stash[MADE])
    if left or config.getoption("calls"):
        terminalreporter.section("calls to AWS that the product states and no test had it make")
        for part, call in sorted(left):
            terminalreporter.line(f"{part}: {call}")
        terminalreporter.line(f"{len(left)} of {len(left) + len(config.stash[MADE])}")


def unmade(made: set[Call]) -> set[Call]:
    """What the parts state and were not seen to call. Facts are granted together, so one that asks does for all that state the same."""
    from tests.everything import stated

    asked = {call for part, call in made if part.startswith(FACT)}
    left = {(part, call) for part, calls in stated().items() for call in calls} - made
    return {(part, call) for part, call in left if not (part.startswith(FACT) and call in asked)}


def _is_whole(config: pytest.Config) -> bool:
    """Whether every test was asked for."""
    chosen = ("keyword", "markexpr", "lf", "failedfirst", "deselect", "ignore", "ignore_glob", "maxfail", "collectonly")
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not any(config.getoption(name, None) for name in chosen)
