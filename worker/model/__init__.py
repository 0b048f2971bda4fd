"""The values that travel through the pipe, from a notification to a task.

Each is frozen and linked to what it came from, so that whoever holds a task can still name the record, the object and the bucket
behind it. This package imports nothing of ours but itself. A newcomer adds a value here when it crosses from one stage to the next.
"""

from worker.model.approval import (
    Answer,
    Approval,
    Decision,
)
from worker.model.fact import (
    BANDS,
    DRY_RUN,
    EnrichedFinding,
    Fact,
    FactSource,
    FactStatus,
    ProfileEvent,
    is_dry_run,
)
from worker.model.finding import (
    CIRCUMSTANCES,
    CONDITIONS,
    WORSE,
    Actor,
    Census,
    Closing,
    Finding,
    Level,
    Occurrence,
    Rule,
    Sighting,
    Subject,
)
from worker.model.ids import (
    NAMESPACE,
    stable_id,
)
from worker.model.message import (
    Fault,
    LogObject,
    Message,
    Notice,
    Origin,
    Verdict,
)
from worker.model.own_call import (
    MARK,
    Expectation,
    Intention,
    awaited_key,
    call_key,
    is_marked,
    marks_of,
)
from worker.model.record import (
    Interest,
    Record,
)
from worker.model.task import (
    Backlog,
    Delivery,
    JournalEntry,
    Outgoing,
    Target,
    Task,
    Withheld,
)

__all__ = [
    "BANDS",
    "CIRCUMSTANCES",
    "CONDITIONS",
    "DRY_RUN",
    "MARK",
    "NAMESPACE",
    "WORSE",
    "Actor",
    "Answer",
    "Approval",
    "Backlog",
    "Census",
    "Closing",
    "Decision",
    "Delivery",
    "EnrichedFinding",
    "Expectation",
    "Fact",
    "FactSource",
    "FactStatus",
    "Fault",
    "Finding",
    "Intention",
    "Interest",
    "JournalEntry",
    "Level",
    "LogObject",
    "Message",
    "Notice",
    "Occurrence",
    "Origin",
    "Outgoing",
    "ProfileEvent",
    "Record",
    "Rule",
    "Sighting",
    "Subject",
    "Target",
    "Task",
    "Verdict",
    "Withheld",
    "awaited_key",
    "call_key",
    "is_dry_run",
    "is_marked",
    "marks_of",
    "stable_id",
]
