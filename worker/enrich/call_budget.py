"""How often one API of one account is asked: pure.

A bucket of calls that fills at a rate, and learns from how AWS answers: a throttling answer halves the rate, empties the bucket and has everybody
pause; without one the rate climbs back to where it began. An API that leaves several calls in a row unanswered is not waited for by every finding:
for a while nobody asks, then one tries. AWS publishes no rates for IAM (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html),
and whatever an account allows is shared with its own tools, so the rates here leave most of it to them. Times are seconds of one clock, whichever.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_RATE = 0.2
RECOVERY_SECONDS = 60.0
"""From the least rate back to the first one, when nothing is throttled meanwhile."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
MOST_UNANSWERED = 3
SILENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second in the long run, and calls at once when nobody asked for a while."""

    a_second: float
    burst: int


RATES = {
    "iam": Rate(20, 40),
    "ec2": Rate(20, 40),
    # https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html: two a second, account and region.
    "cloudtrail": Rate(1.5, 2),
}
"""By service; https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html has EC2's."""
OTHERS = Rate(10, 20)


class CallBudget:
    """One API's calls. Ask `take` for leave before each call, and say afterwards how it went."""

    def __init__(self, most: Rate, now: float) -> None:
        self.rate = most.a_second
        self._most = most
        self._calls = float(most.burst)
        self._filled_at = now
        self._resumes_at = now
        self._pause = FIRST_PAUSE_SECONDS
        self._learnt_at = now
        self._unanswered = 0
        self._silent_until = now

    def take(self, now: float) -> float:
        """0 where the call may be made now, and has then been counted; else how many seconds to wait before asking again."""
        self._fill(now)
        if now < self._resumes_at:
            return self._resumes_at - now
        if self._calls < 1:
            return max((1 - self._calls) / self.rate, 0.001)
        self._calls -= 1
        return 0.0

    def pause(self, now: float) -> float:
        """Seconds until anybody may call again, after a throttling answer."""
        return max(0.0, self._resumes_at - now)

    def give_back(self) -> None:
        """The call that was allowed was not made."""
        self._calls = min(float(self._most.burst), self._calls + 1)

    def silent(self, now: float) -> bool:
        """Whether there is no use in asking now. Past its time, one caller is let through to see, and the others wait for what it finds."""
        if self._unanswered < MOST_UNANSWERED:
            return False
        if now < self._silent_until:
            return True
        self._silent_until = now + SILENT_SECONDS
        return False

    def answered(self) -> None:
        """An answer came, whatever it said."""
        self._unanswered = 0

    def unanswered(self, now: float) -> None:
        """No answer came."""
        self._unanswered += 1
        self._silent_until = now + SILENT_SECONDS

    def throttled(self, called_at: float, now: float) -> None:
        """The answer to a call made at `called_at` was that we ask too much. Calls that were under way together teach it once."""
        self._fill(now)
        self._calls = 0.0
        if called_at < self._learnt_at:
            return
        if now >= self._resumes_at + LONGEST_PAUSE_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self._learnt_at = now
        self._resumes_at = now + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
        self.rate = max(LEAST_RATE, self.rate / 2)

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._filled_at)
        self._filled_at = max(now, self._filled_at)
        self._calls = min(float(self._most.burst), self._calls + passed * self.rate)
        self.rate = min(self._most.a_second, self.rate + passed * self._most.a_second / RECOVERY_SECONDS)
