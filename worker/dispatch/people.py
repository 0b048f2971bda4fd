"""People: findings as readable text to Slack, PagerDuty, Opsgenie, Teams, mail and whatever else the apprise library knows.

A URL of apprise holds credentials. It is neither logged nor the sink's key, which is the name that the operator gave, so that a new token leaves
what was told as told. Apprise says in its log why something was not taken, at times with more than should be read; its log is therefore off, and
`apprise -vv` on the operator's own machine tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import apprise
import orjson

from worker.addresses import hush_apprise
from worker.dispatch import brief
from worker.model import Outgoing

TYPES = {
    "critical": apprise.NotifyType.FAILURE,
    "high": apprise.NotifyType.FAILURE,
    "medium": apprise.NotifyType.WARNING,
}
"""By level, as apprise colours them; everything lower is for information."""


class PeopleSink:
    """Those behind one URL of apprise."""

    kind = "people"

    def __init__(self, name: str, url: str) -> None:
        self.key = f"people:{name}"
        hush_apprise()
        self._to = apprise.Apprise()
        self._to.add(url)

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        refusals = [(item.id, await asyncio.to_thread(self._notify, item)) for item in items]
        return {number: refusal for number, refusal in refusals if refusal is not None}

    def _notify(self, item: Outgoing) -> str | None:
        finding = orjson.loads(item.body)
        taken = self._to.notify(
            title=brief.title(finding),
            body=brief.text(finding),
            notify_type=TYPES.get(finding.get("level"), apprise.NotifyType.INFO),
            body_format=apprise.NotifyFormat.TEXT,
        )
        return None if taken else "the service did not take it; `apprise -vv` with the same URL says why"
