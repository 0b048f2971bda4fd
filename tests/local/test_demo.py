"""The demo itself: it tells its story on the real worker, and leaves nothing behind however it ends."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import PATIENCE_SECONDS
from worker.local import demo, stage
from worker.local.children import Children

RUN = "import sys; from rich.console import Console; from worker.local.demo import main; sys.exit(main('keep' in sys.argv, Console()))"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start_demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo as a process that may not see the developer's AWS; its temporary folder lies in `folder`."""
    trap = {"AWS_PROFILE": "no-such-profile", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    trap |= {"TRAILMEND_CONCURRENCY": "not a number", "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL"}
    return subprocess.Popen(
        [sys.executable, "-u", "-c", RUN, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, **trap, "TMPDIR": str(folder)}
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it prints, up to and with the line that holds these words."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f"ended without saying '{words}':\n{text}")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc to see a process's children")


@needs_proc
def test_a_kept_demo_tells_its_story_and_ends_clean_on_ctrl_c(tmp_path):
    """With --keep the story is told and the worker answers; Ctrl-C ends it with status 0, without a process or a file left."""
    process = start_demo(tmp_path, "keep")
    try:
        text = read_until(process, "Ctrl-C ends it.")
        children = children_of(process.pid)
        assert len(children) == 2
        assert "What to wake up for (8)" in text
        assert "restore-instance-profile web-fleet" in text
        assert "Role removed from an instance profile in use" in text
        assert re.search(r"recalls +i-[0-9a-f]+ \((us-east-1|eu-west-1), since ", text)
        assert "What the person on call was shown before they agreed" in text
        assert re.search(r"restore-instance-profile +approve +applied +arn:aws:sts", text)
        assert re.search(r"enforce-mfa +shadow +shadowed", text)
        assert "The worker knows them: 6 confirmed, 0 findings." in text
        assert "curl -s http://127.0.0.1:" in text
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert "All came out as told" in rest
    assert process.returncode == 0
    assert not any(map(alive, children))
    assert list(tmp_path.iterdir()) == []


@needs_proc
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_ended_in_the_middle_leaves_nothing(tmp_path, number, status):
    """A signal while the worker is at it ends the demo with the signal's status, without a process or a file left."""
    process = start_demo(tmp_path)
    try:
        read_until(process, "The worker runs.")
        children = children_of(process.pid)
        assert len(children) == 2
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert not any(map(alive, children))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch):
    """Without the embedded AWS the demo says what to install, and its status is 1."""
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "ministack" else find_spec(name))
    console = Console(file=io.StringIO(), width=100)
    assert demo.main(keep=False, console=console) == 1
    assert "pip install 'trailmend[demo]'" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_failing_demo_shows_what_failed(monkeypatch):
    """A template that does not deploy ends the demo with status 1 and the reason; nothing goes on behind it."""
    monkeypatch.setattr(stage, "template", lambda name: "Resources: {Odd: {Type: 'AWS::No::Such'}}")
    console = Console(file=io.StringIO(), width=200)
    assert demo.main(keep=False, console=console) == 1
    assert "The demo failed" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_child_sees_nothing_of_the_callers_aws(tmp_path):
    """A child's environment has what it was given and a few named variables: no credentials, no proxies."""
    (tmp_path / "shows.py").write_text("import os\nprint(sorted(os.environ))\n")
    environment = {"PATH": os.environ["PATH"], "AWS_PROFILE": "real", "TRAILMEND_STATE": "x", "HTTPS_PROXY": "http://proxy"}
    with Children(tmp_path, {**environment, "PYTHONPATH": str(tmp_path)}) as children:
        child = children.start("shows", "shows", variables={"AWS_REGION": "us-east-1"})
        assert child.process.wait(PATIENCE_SECONDS) == 0
    told = child.tail()
    assert "AWS_REGION" in told
    assert not any(name in told for name in ("AWS_PROFILE", "TRAILMEND_STATE", "HTTPS_PROXY"))


def test_a_child_that_will_not_end_is_ended(tmp_path):
    """A child deaf to SIGTERM is killed when its grace is over, at the latest when the block is left."""
    (tmp_path / "deaf.py").write_text("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with Children(tmp_path, environment) as children:
        deaf = children.start("deaf", "deaf", variables={}, grace_seconds=0.2)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "deaf" not in deaf.tail() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not deaf.ended
    assert deaf.process.returncode == -9
