"""A scraper gets metrics, an orchestrator gets health, and a taken address is told by name."""

from __future__ import annotations

import aiohttp
import pytest

from tests.fakes import metrics
from worker.observe.http import ListenError, serving
from worker.variables import HttpAddress

LOOPBACK = HttpAddress("127.0.0.1", 0)


async def get(address, path, **headers):
    async with aiohttp.ClientSession() as session, session.get(f"{address}{path}", headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_metrics_are_served_in_both_forms():
    """Prometheus's text form by default, OpenMetrics for those who ask for it."""
    of = metrics()
    of.skipped("digest")
    async with serving(LOOPBACK, of.registry, list) as address:
        status, kind, text = await get(address, "/metrics")
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        assert 'trailmend_skipped_total{reason="digest"} 1.0' in text
        status, kind, text = await get(address, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")


async def test_health_and_readiness():
    """/healthz is always well; /readyz tells why not."""
    wrong = ["no receive has succeeded for 90 s"]
    async with serving(LOOPBACK, metrics().registry, lambda: wrong) as address:
        assert (await get(address, "/healthz"))[0] == 200
        assert (await get(address, "/readyz"))[::2] == (503, "no receive has succeeded for 90 s\n")
        wrong = []
        assert (await get(address, "/readyz"))[::2] == (200, "ready\n")
        assert (await get(address, "/elsewhere"))[0] == 404


async def test_a_taken_address_is_told():
    """The setting's name stands in the error."""
    async with serving(LOOPBACK, metrics().registry, list) as address:
        with pytest.raises(ListenError, match="TRAILMEND_HTTP_ADDRESS"):
            async with serving(HttpAddress("127.0.0.1", int(address.rpartition(":")[2])), metrics().registry, list):
                pass


async def test_a_socket_is_served_like_a_port(tmp_path):
    """One of several processes answers at a path; what it is to be asked for is fetched anew before each answer."""
    asked = []

    async def refresh():
        asked.append(True)

    path = tmp_path / "1.sock"
    async with serving(path, metrics().registry, list, refresh) as address:
        assert address == f"unix:{path}"
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            for asked_for in ("metrics", "readyz"):
                async with session.get(f"http://child/{asked_for}") as answer:
                    assert answer.status == 200
    assert len(asked) == 2
