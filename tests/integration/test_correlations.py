"""Correlations through the whole worker: told at once, or by the worker itself when their span is over."""

from __future__ import annotations

from tests.integration.conftest import deletion, log_file, until_true

RULES = """
title: Deleted
logsource: {product: aws, service: cloudtrail}
detection: {selection: {eventSource: iam.amazonaws.com, eventName: DeleteInstanceProfile}, condition: selection}
---
title: Three deleted
correlation: {type: event_count, rules: [Deleted], group-by: [userIdentity.arn], timespan: 5m, condition: {gte: 3}}
---
title: Fewer than five deleted
correlation: {type: event_count, rules: [Deleted], group-by: [userIdentity.arn], timespan: 5m, condition: {lt: 5}}
"""


async def test_an_open_correlation_is_told_at_once_and_a_closing_one_when_its_span_is_over(estate, tmp_path, monkeypatch):
    """Three deletions in objects of their own: each correlation is found once, the closing one with no further message to prompt it."""
    monkeypatch.setattr("worker.app.CLOSE_EVERY_SECONDS", 0.2)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.yml").write_text(RULES)
    environment = {
        "TRAILMEND_RULES_DIR": str(tmp_path / "rules"),
        "TRAILMEND_SHIPPED_RULES": "false",
        "TRAILMEND_LATENESS_SECONDS": "5",
    }
    for number in range(3):
        estate.notify(estate.put(f"profile-{number}", log_file(deletion(f"profile-{number}"))))
    async with estate.worker(**environment):
        await until_true(lambda: len(estate.findings()) == 2)
    assert sorted(finding["rule"]["title"] for finding in estate.findings()) == ["Fewer than five deleted", "Three deleted"]
    assert '"event": "fault"' not in (estate.folder / "worker.log").read_text()
