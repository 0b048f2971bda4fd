"""The command line: which commands there are, and what each takes. What they do is in `cli.py`."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker import __version__
from worker.roles import Role
from worker.sweep.swept import IDLE_DAYS, LONGEST_DAYS, SWEPT

Commands = Any
"""What adds commands: argparse has no public name for it."""


def parser() -> argparse.ArgumentParser:
    """What may be said on the command line. Options have `command`, the name of the command; `rules` has what is asked of them in `ask`."""
    whole = argparse.ArgumentParser(prog="trailmend", description="Watches CloudTrail and mends IAM.")
    whole.add_argument("--version", action="version", version=f"trailmend {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_roles, _tasks, _sweep, _mfa, _policy, _scan, _rules):
        add(commands)
    return whole


def _roles(commands: Commands) -> None:
    run = commands.add_parser("run", help="the worker: from notifications on TRAILMEND_QUEUE_URL to findings and tasks")
    run.add_argument("--process", type=int, help=argparse.SUPPRESS)  # one of several, as the parent starts it
    run.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    run.set_defaults(command="run")

    remediate = commands.add_parser("remediate", help="the executor: from tasks on TRAILMEND_TASK_QUEUE_URL to mended IAM")
    remediate.set_defaults(command="remediate")

    demo = commands.add_parser("demo", help="the whole of it on an embedded AWS, with a story to tell")
    demo.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    demo.set_defaults(command="demo")


def _tasks(commands: Commands) -> None:
    tasks = commands.add_parser("tasks", help="tasks: what waits for people, what was done, and undoing it").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    listed = tasks.add_parser("list", help="what waits for people, and every task in the journal with what became of it")
    listed.add_argument("--waiting", action="store_true", help="only what waits")
    listed.set_defaults(command="tasks", work=lambda desk, options: desk.list(waiting=options.waiting))
    show = tasks.add_parser("show", help="all that the journal tells of one task")
    show.set_defaults(command="tasks", work=lambda desk, options: desk.show(options.task))
    undo = tasks.add_parser("undo", help="bring back what was before a task, as the journal tells it; the plan is shown first")
    undo.add_argument("--yes", action="store_true", help="agree to the plan beforehand, and do not ask")
    undo.set_defaults(command="tasks", work=lambda desk, options: desk.undo(options.task, agreed=options.yes))
    approve = tasks.add_parser("approve", help="agree to a task that waits; what it does, whom it hits and how it is undone is shown first")
    approve.set_defaults(command="tasks", work=lambda desk, options: desk.answer(options.task, "yes", options.why, agreed=options.yes))
    reject = tasks.add_parser("reject", help="end a task that waits, so that it is not done")
    reject.set_defaults(command="tasks", work=lambda desk, options: desk.answer(options.task, "no", options.why, agreed=options.yes))
    for one in (approve, reject):
        one.add_argument("--why", metavar="TEXT", help="the reason, which is recorded; asked for where it is not given")
        one.add_argument("--yes", action="store_true", help="answer beforehand, and do not ask")
    for one in (show, undo, approve, reject):
        one.add_argument("task", metavar="ID", help="a task by its id or the beginning of one")
    verify = tasks.add_parser("verify-journal", help="whether any line of the journal was changed, taken out or put in")
    verify.add_argument("--head", metavar="HASH", help="a hash that an earlier run told, which must be in the journal still")
    verify.add_argument(
        "--exported",
        nargs="?",
        const="",
        metavar="s3://BUCKET/PREFIX",
        help="hold it against what was exported there, or as TRAILMEND_JOURNAL_EXPORT says",
    )
    verify.set_defaults(command="tasks", work=lambda desk, options: desk.verify(options.head, options.exported))
    export = tasks.add_parser("export-journal", help="write what is new of the journal to a bucket, locked; `remediate` does so by itself")
    export.add_argument("place", nargs="?", metavar="s3://BUCKET/PREFIX", help="instead of what TRAILMEND_JOURNAL_EXPORT says")
    export.set_defaults(command="tasks", work=lambda desk, options: desk.export(options.place))


def _policy(commands: Commands) -> None:
    policy = commands.add_parser("policy", help="the least IAM policy for what the settings enable, as IAM takes it")
    policy.add_argument("--role", type=Role, choices=list(Role), default=Role.WORKER, help="whose (default: %(default)s)")
    policy.add_argument("--bucket", metavar="NAME", help="the bucket of the logs, which no setting names")
    policy.add_argument("--dead-letter-queue", metavar="NAME", help="the dead-letter queue of the tasks, which no setting names")
    policy.add_argument("--key", metavar="ARN", help="the KMS key that the logs are encrypted with, if they are")
    policy.set_defaults(command="policy")


def _scan(commands: Commands) -> None:
    scan = commands.add_parser("scan", help="find in CloudTrail files, folders, standard input or a bucket; needs no AWS for files")
    scan.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder, - for standard input, or s3://bucket/prefix")
    scan.add_argument("--rules", action="append", type=Path, default=[], metavar="DIR", help="more Sigma rules (may be given again)")
    scan.add_argument("--no-shipped-rules", action="store_true", help="only the rules of --rules")
    scan.add_argument("--format", choices=("table", "jsonl", "ocsf"), default="table", help="for people, programs, or as OCSF events")
    scan.add_argument("--from", dest="since", type=_moment, metavar="TIME", help="only events at or after this time (ISO 8601, UTC)")
    scan.add_argument("--to", dest="until", type=_moment, metavar="TIME", help="only events before this time")
    scan.add_argument("--stats", metavar="FILE", help="write what was read as one JSON object to FILE, - for standard error")
    scan.set_defaults(command="scan")


def _rules(commands: Commands) -> None:
    rules = commands.add_parser("rules", help="the rules").add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, text in (
        ("list", "every rule with its level, events and tests"),
        ("check", "load rules and tell every fault with its place"),
        ("test", "run the tests inside the rules"),
        ("show", "one rule as it was understood, and why an event did or did not match"),
    ):
        one = rules.add_parser(name, help=text)
        if name == "show":
            one.add_argument("rule", metavar="ID", help="a rule or correlation by its id, the beginning of one, its name or title")
            one.add_argument(
                "--event", metavar="FILE", help="tell what becomes of the CloudTrail records in FILE, or with - on standard input"
            )
        instead = "those in force" if name == "show" else "the shipped ones"
        one.add_argument("folders", nargs="*", type=Path, metavar="DIR", help=f"folders of rules instead of {instead}")
        one.set_defaults(command="rules", ask=name)


def _sweep(commands: Commands) -> None:
    sweep = commands.add_parser("sweep", help="the identity remediations over all users of an account; the plan is shown first")
    sweep.add_argument("--account", action="append", default=[], type=_account, metavar="ID", help="an account instead of our own (again)")
    sweep.add_argument("--all-accounts", action="store_true", help="our own account and those of TRAILMEND_ACCOUNTS")
    sweep.add_argument("--user", action="append", default=[], metavar="NAME", help="only this user (again), and not the account itself")
    sweep.add_argument("--only", action="append", default=[], choices=SWEPT, metavar="ACTION", help=f"one of {', '.join(SWEPT)} (again)")
    sweep.add_argument("--days", type=_days, default=IDLE_DAYS, metavar="N", help=f"after how many days a key is idle ({IDLE_DAYS})")
    sweep.add_argument("--mfa-for-keys", action="store_true", help="hold users without MFA who have only access keys, too")
    sweep.add_argument("--format", choices=("table", "jsonl"), default="table", help="for people, or for programs")
    sweep.add_argument("--apply", action="store_true", help="do it, once the plan was shown and agreed to")
    sweep.add_argument("--yes", action="store_true", help="agree to the plan beforehand, and do not ask")
    sweep.set_defaults(command="sweep")


def _mfa(commands: Commands) -> None:
    mfa = commands.add_parser("mfa", help="MFA devices of users").add_subparsers(title="commands", required=True, metavar="COMMAND")
    enroll = mfa.add_parser("enroll", help="walk through giving a user a virtual MFA device")
    enroll.add_argument("user", metavar="USER", help="an IAM user's name")
    enroll.add_argument("--account", type=_account, metavar="ID", help="the user's account, where it is not our own")
    enroll.add_argument("--device", metavar="NAME", help="the device's name; by default the user's")
    enroll.add_argument("--another", action="store_true", help="also where the user has a device already")
    enroll.set_defaults(command="mfa")


def _account(text: str) -> str:
    if re.fullmatch("[0-9]{12}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no account id: it has 12 digits")
    return text


def _days(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= LONGEST_DAYS:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of days from 1 to {LONGEST_DAYS}")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no time such as 2026-11-23 or 2026-11-23T14:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
