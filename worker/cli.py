"""The commands: what each does with its options (`arguments.py`), and printing, nothing else. `trailmend --help` lists them.

Exit status: 0 done, 1 the job found a fault, 2 wrong usage or settings. Results go to standard output, everything about the work to standard error.
What a command needs is imported when it runs, so that `--help` is instant and `run` starts fast.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from worker.arguments import parser
from worker.settings import Settings, SettingsError

DONE, FAULT, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answers its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # JSON is UTF-8, whatever the locale
            stream.reconfigure(encoding="utf-8", errors="replace")
    options = parser().parse_args(arguments)
    try:
        status = COMMANDS[options.command](options)
    except SettingsError as error:
        for fault in error.faults:
            _complain(fault)
        return USAGE
    except BrokenPipeError:
        # Whoever read our output has had enough; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return status


# The long-running roles.


def _run(options: argparse.Namespace) -> int:
    from worker.cpus import processors

    settings = Settings.from_environment(os.environ)
    if options.process is None:
        count = settings.processes or processors()
        if count > 1:
            return _several(settings, count)

    from worker import live
    from worker.app import run_worker

    if options.process is not None:
        return _lived(lambda: live.child(run_worker, settings, options.process, options.socket))
    return _lived(lambda: live.alone(run_worker, settings, hangup=True))


def _several(settings: Settings, count: int) -> int:
    from worker.observe.http import ListenError
    from worker.parent import several

    try:
        return several(settings, count)
    except ListenError as error:
        _complain(str(error))
        return USAGE


def _remediate(_: argparse.Namespace) -> int:
    from worker import live
    from worker.app import run_executor

    settings = Settings.from_environment(os.environ)
    return _lived(lambda: live.alone(run_executor, settings, hangup=False))


def _lived(life: Callable[[], int]) -> int:
    """The status of a life, and in words why one could not begin."""
    from worker.detect.library import RuleFaults
    from worker.observe.http import ListenError
    from worker.state.store import StoreError

    try:
        return life()
    except ListenError as error:
        _complain(str(error))
        return USAGE
    except RuleFaults as error:
        return _rule_faults(error)
    except StoreError as error:
        _complain(str(error))
        return FAULT


def _demo(options: argparse.Namespace) -> int:
    from worker.local.demo import main as demo
    from worker.printing import console

    return demo(options.keep, console(sys.stdout))


def _rules(options: argparse.Namespace) -> int:
    from worker.detect.library import RuleFaults

    try:
        status = ASK[options.ask](options)
    except RuleFaults as error:
        return _rule_faults(error)
    return status


def _rules_list(options: argparse.Namespace) -> int:
    from worker.detect.catalogue import counts
    from worker.detect.library import load
    from worker.printing import console
    from worker.rules_view import rules_table

    rulebook = load(options.folders, shipped=not options.folders)
    people = console(sys.stdout)
    people.print(rules_table(rulebook))
    people.print(f"\n{counts(rulebook, _now())}", soft_wrap=True)
    return DONE


def _rules_check(options: argparse.Namespace) -> int:
    from worker.detect.catalogue import entries, remarks, size
    from worker.detect.library import load
    from worker.dispatch.plan import PLANNERS

    rulebook = load(options.folders, shipped=not options.folders)
    unknown = [(one, action) for one in entries(rulebook) for action in one.rule.remediation if action not in PLANNERS]
    for one, action in unknown:
        _complain(f"{one.path}:{one.line}: remediation names '{action}', which is none of {', '.join(PLANNERS)}")
    for remark in remarks(rulebook):
        print(remark)
    if not unknown:
        print(f"{size(rulebook)}, no fault")
    return FAULT if unknown else DONE


def _rules_test(options: argparse.Namespace) -> int:
    from worker.detect import samples
    from worker.detect.catalogue import size
    from worker.detect.library import load

    rulebook = load(options.folders, shipped=not options.folders)
    results = samples.run(rulebook)
    failed = [result for result in results if not result.passed]
    for result in failed:
        _complain(f"{result.rule.path}:{result.sample.line}: test '{result.sample.name}' of '{result.rule.rule.title}': {result.text}")
    print(f"{len(results) - len(failed)} tests passed, {len(failed)} failed, in {size(rulebook)}")
    return FAULT if failed else DONE


def _rules_show(options: argparse.Namespace) -> int:
    from worker.detect.catalogue import find, near
    from worker.detect.library import load
    from worker.judging import judge, records
    from worker.printing import console
    from worker.rules_view import told

    settings = Settings.from_environment(os.environ)
    # Without folders, what a worker with these settings would have in force: its own house's levels and suppressions too.
    house = [settings.rules_dir] if settings.rules_dir is not None else []
    rulebook = load(options.folders or house, shipped=not options.folders and settings.shipped_rules)
    found = find(rulebook, options.rule)
    if len(found) != 1:
        others = found or near(rulebook, options.rule)
        why = "may be any of these" if found else "is no id, name or title of a rule" + ("; near it are" if others else "")
        _complain("\n  ".join([f"'{options.rule}' {why}", *(f"{one.rule.id}  {one.rule.title}" for one in others)]))
        return USAGE
    try:
        events = [] if options.event is None else list(records(options.event, settings, sys.stdin.buffer, _complain))
    except FileNotFoundError as error:
        _complain(str(error))
        return USAGE
    people = console(sys.stdout)
    for line in told(rulebook, found[0], _now()):
        people.print(line, soft_wrap=True)
    return DONE if options.event is None or judge(rulebook, found[0], events, people) else FAULT


def _rule_faults(error: Exception) -> int:
    for fault in str(error).splitlines():
        _complain(fault)
    return FAULT


# Tasks.


def _tasks(options: argparse.Namespace) -> int:
    from worker.printing import console
    from worker.tasks import Desk

    desk = Desk(Settings.from_environment(os.environ), os.environ, _now, console(sys.stdout), sys.stdin)
    return _by_hand(lambda: asyncio.run(options.work(desk, options)))


# What a person does by hand.


def _sweep(options: argparse.Namespace) -> int:
    from worker.printing import console
    from worker.sweep.swept import SWEPT
    from worker.sweep.wants import Choice
    from worker.sweeping import Asked, Place

    choice = Choice(frozenset(options.only or SWEPT), options.days, options.mfa_for_keys)
    asked = Asked(options.account, options.all_accounts, options.user, choice, options.format, apply=options.apply, agreed=options.yes)
    settings = Settings.from_environment(os.environ)
    place = Place(settings, os.environ, _now, sys.stdin, sys.stdout, console(sys.stdout), console(sys.stderr))
    return _by_hand(lambda: asyncio.run(place.run(asked)))


def _mfa(options: argparse.Namespace) -> int:
    from worker.mfa import Enrolling
    from worker.printing import console

    enrolling = Enrolling(Settings.from_environment(os.environ), os.environ, _now, console(sys.stdout), sys.stdin)
    return _by_hand(lambda: asyncio.run(enrolling.enroll(options.user, options.account, options.device, another=options.another)))


def _by_hand(work: Callable[[], None]) -> int:
    from worker.state.store import StoreError
    from worker.terminal import AskedWronglyError, NotDoneError

    try:
        work()
    except AskedWronglyError as error:
        _complain(str(error))
        return USAGE
    except (NotDoneError, StoreError) as error:
        _complain(str(error))
        return FAULT
    except KeyboardInterrupt:
        _complain("interrupted")
        return FAULT
    return DONE


def _policy(options: argparse.Namespace) -> int:
    from worker.aws import session
    from worker.least_policy import Surroundings, least

    settings = Settings.from_environment(os.environ)
    region = session(os.environ).get_config_variable("region")
    partition = "aws" if region is None else session(os.environ).get_partition_for_region(region)
    found = least(options.role, settings, Surroundings(partition, region, options.bucket, options.key, options.dead_letter_queue))
    for document in found.documents:
        print(json.dumps(document, indent=2))
    for remark in found.remarks:
        _complain(remark)
    return DONE


# Scanning.


def _scan(options: argparse.Namespace) -> int:
    from worker import scanning
    from worker.detect.library import RuleFaults, load
    from worker.printing import console, print_findings

    settings = Settings.from_environment(os.environ)
    if options.since is not None and options.until is not None and options.since >= options.until:
        _complain(f"--from {options.since.isoformat()} is not before --to {options.until.isoformat()}: there is nothing between them")
        return USAGE
    try:
        rules = load(options.rules, shipped=not options.no_shipped_rules)
    except RuleFaults as error:
        return _rule_faults(error)
    if not rules.rules:
        _complain("there is no rule to scan with: give --rules DIR, or leave --no-shipped-rules away")
        return USAGE
    asked = scanning.Asked(tuple(options.paths), options.since, options.until)
    try:
        scanned = asyncio.run(scanning.run(asked, rules, settings, os.environ, _now, console(sys.stderr), sys.stdin.buffer))
    except FileNotFoundError as error:
        _complain(str(error))
        return USAGE
    try:
        print_findings(scanned.findings, options.format, sys.stdout, _now())
    except BrokenPipeError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        _complain(f"standard output: {error}")
        return FAULT
    if options.stats is not None:
        try:
            _write_stats(scanned.stats, options.stats)
        except OSError as error:
            _complain(f"--stats: {error}")
            return USAGE
    return FAULT if scanned.faulty else DONE


def _write_stats(stats: Mapping[str, object], where: str) -> None:
    line = json.dumps(stats) + "\n"
    if where == "-":
        sys.stderr.write(line)
    else:
        Path(where).write_text(line, encoding="utf-8")


def _now() -> datetime:
    return datetime.now(UTC)


def _complain(text: str) -> None:
    print(f"trailmend: {text}", file=sys.stderr)


Command = Callable[[argparse.Namespace], int]
COMMANDS: Mapping[str, Command] = {
    "run": _run,
    "remediate": _remediate,
    "tasks": _tasks,
    "policy": _policy,
    "sweep": _sweep,
    "mfa": _mfa,
    "demo": _demo,
    "scan": _scan,
    "rules": _rules,
}
ASK: Mapping[str, Command] = {"list": _rules_list, "check": _rules_check, "test": _rules_test, "show": _rules_show}
"""Of the rules."""
