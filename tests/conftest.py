"""Parts every test may use: an embedded AWS on loopback, started once a session on a free port and emptied before each test that asks.

Tests run in several processes at once (`make test`), each a session with servers of its own: a test may be neighbour to any other.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest
from hypothesis import HealthCheck, settings

from tests.virtual_time import VirtualTimeLoop

pytest_plugins = ("tests.within_policy",)

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
PATIENCE_SECONDS = 180.0
"""How long is waited for what must come. Nothing is told by it: only a test that fails takes so long, and no busy machine should make one fail."""

# How long an example takes says nothing on a machine that is busy with others.
settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop of a test: asyncio's own, or one of virtual time where the test is marked so."""
    return {"loop": VirtualTimeLoop if item.get_closest_marker("virtual_time") else asyncio.new_event_loop}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real CloudTrail and Sigma rules beside the checkout; a newcomer's clone has none, and then the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which a fresh clone does not have")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _service_models() -> Iterator[None]:
    """One reader of botocore's service models for all sessions: each would otherwise read them anew, EC2's alone longer than most tests take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.loaders.create_loader))
        yield


def free_port() -> int:
    """A port that nothing listens on at this moment.

    It lies below those that Linux gives to outgoing connections, and each process of a test run has a thousand of its own, so that nobody
    takes it before whom it is meant for.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = 10_000 + process % 20 * 1_000 + secrets.randbelow(1_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def embedded_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of an embedded AWS that lives as long as the test session."""
    port = free_port()
    log = tmp_path_factory.mktemp("embedded") / "aws.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.local.embedded", str(port)], stdout=stream, stderr=subprocess.STDOUT, env=dict(os.environ)
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/_ministack/health", timeout=2).close()
            break
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"the embedded AWS did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(timeout=PATIENCE_SECONDS)


@pytest.fixture
def embedded_aws(embedded_process: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty embedded AWS; the environment points every AWS client at it, in account 000000000000 and region us-east-1."""
    urllib.request.urlopen(urllib.request.Request(f"{embedded_process}/_ministack/reset", method="POST"), timeout=PATIENCE_SECONDS).close()
    for name in [name for name in os.environ if name.startswith(("AWS_", "TRAILMEND_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded_process)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return embedded_process
