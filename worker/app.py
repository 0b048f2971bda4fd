"""Composition: settings -> clients -> pipeline -> service. The only file that knows every part.

Each function here is one role of the program, from its settings to its end. Time, chance, the environment and the streams come in as arguments.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from structlog.typing import FilteringBoundLogger

from worker.addresses import Address
from worker.aws import Accounts, queue_region, session
from worker.budget import Budget
from worker.correlator import Correlator
from worker.detect.library import load
from worker.detect.rulebook import Rulebook
from worker.dispatch.outbox import Outbox, Sink
from worker.dispatch.sinks import Outside, Stream, open_sink
from worker.enrich import profile
from worker.enrich.investigator import Investigator
from worker.enrich.recollection import forget
from worker.enrich.snapshots import Snapshots
from worker.ingest import skim
from worker.ingest.objects import ObjectError, Objects
from worker.ingest.queue import Queue
from worker.ingest.trail import Bounds
from worker.lane import Lane
from worker.model import Level, Message, Verdict
from worker.observe.http import serving
from worker.observe.metrics import Metrics
from worker.own_records import OwnRecords
from worker.pipeline import Parts, Pipeline
from worker.remediate import calls
from worker.rules_in_force import RulesInForce
from worker.service import Service
from worker.settings import Settings, SettingsError
from worker.state.opening import open_store
from worker.state.store import Claim, Store, StoreError

FORGET_CLAIMS_AFTER = timedelta(days=90)
"""Longer than a message can live on a queue, its dead-letter queue and the queue again (14 days each)."""
FORGET_EVENTS_AFTER = timedelta(days=5 * 365)
"""A profile's role and tags are what a restore needs, and profiles live for years."""
FORGET_EVERY = timedelta(hours=1)
"""Windows of minutes leave sightings behind all day. One worker of a fleet does it for all, because DynamoDB bills every read of the table."""
FORGET_INSTANCES_EVERY = timedelta(days=1)
"""What is remembered of instances is kept for a month after it is over, so a day more is no matter."""
CLOSE_EVERY_SECONDS = 15.0
"""How often correlations are asked for spans that are over. Small beside the lateness that they wait for."""
LEASE_MARGIN_SECONDS = 20.0
"""What a finding may take beyond its enrichment. Short, so that the findings of a worker that died are free before their messages are back."""


MOST_CLIENTS = 256
"""For facts: 350 MB if all were EC2's, which takes accounts times regions."""


@dataclass(frozen=True, slots=True)
class World:
    """What a process is given from outside. `hangup` is set to have the rules read again; `socket` is where to listen instead of `HTTP_ADDRESS`."""

    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    chance: random.Random
    owner: str
    stdout: Stream
    log: FilteringBoundLogger
    hangup: asyncio.Event = field(default_factory=asyncio.Event)
    socket: Path | None = None


def rulebook(settings: Settings, folders: Sequence[Path] = ()) -> Rulebook:
    """The shipped rules and the user's. Raises `RuleFaults`."""
    users = [settings.rules_dir] if settings.rules_dir is not None else []
    return load([*users, *folders], shipped=settings.shipped_rules)


async def run_worker(settings: Settings, world: World, stop: asyncio.Event) -> None:
    """`trailmend run`, until `stop` is set. Raises `SettingsError`, `RuleFaults`, `StoreError` and `ListenError` before it begins."""
    url = _required(settings.queue_url, "QUEUE_URL", "run")
    metrics = _metrics(world)
    watched = [settings.rules_dir] if settings.rules_dir is not None else []  # the shipped rules are a part of the program
    rules = RulesInForce(lambda: rulebook(settings), watched, metrics, world.clock)
    # Facts are asked for within a budget of calls, which clients that try again by themselves would pass.
    asking = Accounts(session(world.environment), settings, tries=1, most_clients=MOST_CLIENTS)
    async with _opened(settings, world) as (accounts, store), asking, AsyncExitStack() as stack:
        compressed, inflated = Budget(settings.inflight_object_bytes), Budget(settings.inflight_inflated_bytes)
        metrics.in_flight("compressed", lambda: compressed.taken)
        metrics.in_flight("inflated", lambda: inflated.taken)
        objects = Objects(accounts, world.environment, settings.max_object_bytes, compressed, world.clock)
        investigator = Investigator(asking, store, settings, metrics, world.clock)
        outside = Outside(accounts, world.environment, world.clock, world.stdout, stack, settings.webhook_secrets)
        task_queue = () if settings.task_queue_url is None else (Address("tasks", settings.task_queue_url),)
        task_sinks = [await open_sink(address, outside) for address in (*task_queue, *settings.task_sinks)]
        if skim.WHY_NOT is not None:
            metrics.life(
                "reader_not_compiled", detail=skim.WHY_NOT, hint="all is read as exactly, and large objects at two thirds of the speed"
            )
        if not task_sinks:
            metrics.life("tasks_not_dispatched", hint="set TRAILMEND_TASK_QUEUE_URL to have remediation tasks dispatched")
        finding_sinks = [(address, await open_sink(address, outside)) for address in (*settings.finding_sinks, *settings.notify)]
        outbox = Outbox([*task_sinks, *(sink for _, sink in finding_sinks)], store, metrics, world.clock, world.owner)

        def sinks_of(level: Level) -> list[Sink]:
            return [sink for address, sink in finding_sinks if settings.routes.leads(level, address)]

        own = OwnRecords(store, metrics, world.clock, world.owner)
        parts = Parts(
            rules=lambda: rules.book,
            correlator=Correlator(store, world.clock, metrics, timedelta(seconds=settings.lateness_seconds)),
            fetch=objects.fetch,
            fetch_fault=ObjectError,
            investigate=investigator.investigate,
            profile_interest=profile.INTEREST,
            profile_events=profile.events_of,
            own_interest=calls.INTEREST,
            own_records=own.among,
            store=store,
            outbox=outbox,
            finding_sinks=sinks_of,
            task_sinks=task_sinks,
            metrics=metrics,
            clock=world.clock,
            owner=world.owner,
            bounds=Bounds(settings.max_inflated_bytes, settings.max_record_bytes),
            inflated=inflated,
            lease=timedelta(seconds=settings.enrich_deadline_seconds + LEASE_MARGIN_SECONDS),
            update_seconds=settings.update_seconds,
            task_keys=settings.task_keys,
        )
        queue = await _queue(url, "main", accounts, settings, world, metrics)
        pipeline = Pipeline(parts)
        beside: list[Callable[[], Coroutine[Any, Any, None]]] = [rules.watch, outbox.watch, own.watch]
        beside += [partial(rules.reload_when, world.hangup), partial(_close_due, pipeline, metrics)]
        if settings.snapshot_seconds:
            beside.append(Snapshots(accounts, store, settings, metrics, world.clock, world.owner).watch)
        await _serve(queue, pipeline, settings, world, metrics, store, stop, beside)


async def run_executor(settings: Settings, world: World, stop: asyncio.Event) -> None:
    """`trailmend remediate`, until `stop` is set. Raises `SettingsError`, `StoreError` and `ListenError` before it begins."""
    # Here, because a worker that watches starts a tenth sooner without the actions and the checks of their tasks.
    from worker.crier import Crier  # noqa: PLC0415
    from worker.remediate import export  # noqa: PLC0415
    from worker.remediate.archive import Archive  # noqa: PLC0415
    from worker.remediate.executor import Executor  # noqa: PLC0415
    from worker.remediate.quarantine import Quarantine  # noqa: PLC0415
    from worker.remediate.scopes import check_scopes  # noqa: PLC0415
    from worker.remediate.waiting import Waiting  # noqa: PLC0415

    check_scopes(settings)
    url = _required(settings.task_queue_url, "TASK_QUEUE_URL", "remediate")
    metrics = _metrics(world)
    mending = Accounts(session(world.environment), settings, mending=True)
    async with _opened(settings, world) as (accounts, store), mending, AsyncExitStack() as stack:
        outside = Outside(accounts, world.environment, world.clock, world.stdout, stack, settings.webhook_secrets)
        # Of every level: who is to agree to something is not to be found out of its severity.
        sinks = [await open_sink(address, outside) for address in (*settings.finding_sinks, *settings.notify)]
        outbox = Outbox(sinks, store, metrics, world.clock, world.owner)
        quarantine = Quarantine(await accounts.client("sqs", region=queue_region(url)), url)
        if (unknown := await quarantine.find()) is not None:
            metrics.life("no_quarantine", detail=unknown, hint="refused task messages are left to their redrive")
        executor = Executor(store, mending, settings, metrics, world.clock, world.owner, quarantine=quarantine)
        queue = await _queue(url, "tasks", accounts, settings, world, metrics)
        narrower = {f"{scope.action}@{scope.account}": mode.value for scope, mode in settings.remediation_modes}
        metrics.life("remediation_mode", mode=settings.remediation_mode.value, modes=narrower)
        waiting = Waiting(executor, store, metrics, world.clock)
        crier = Crier(sinks, outbox, store, metrics, world.clock, world.owner)
        beside: list[Callable[[], Coroutine[Any, Any, None]]] = [waiting.watch, crier.watch, outbox.watch]
        if settings.journal_export is not None:
            archive = Archive(accounts, settings.journal_export, settings.journal_lock)
            kept = export.Export(store, archive, timedelta(days=settings.journal_retain_days), world.clock)
            beside.append(partial(export.watch, kept, metrics, world.owner))
        await _serve(queue, executor.handle, settings, world, metrics, store, stop, beside, executor.halted)


async def _queue(url: str, name: str, accounts: Accounts, settings: Settings, world: World, metrics: Metrics) -> Queue:
    client = await accounts.client("sqs", region=queue_region(url))
    lane = Lane(accounts.session, client.meta.endpoint_url, "sqs", client.meta.region_name, world.environment, world.clock)
    accounts.own(lane.close)
    return Queue(client, lane, url, name, settings.visibility_timeout_seconds, metrics)


def _metrics(world: World) -> Metrics:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return Metrics(registry, world.log)


@asynccontextmanager
async def _opened(settings: Settings, world: World) -> AsyncIterator[tuple[Accounts, Store]]:
    async with AsyncExitStack() as stack:
        accounts = await stack.enter_async_context(Accounts(session(world.environment), settings))
        store = await open_store(settings.state, accounts)
        stack.push_async_callback(store.close)
        yield accounts, store


async def _serve(
    queue: Queue,
    work: Callable[[Message], Awaitable[Verdict]],
    settings: Settings,
    world: World,
    metrics: Metrics,
    store: Store,
    stop: asyncio.Event,
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    gate: Callable[[], Awaitable[str | None]] | None = None,
) -> None:
    """Work the queue until `stop`, while the gate is open, with what goes on beside it until then."""
    service = Service(
        queue,
        work,
        concurrency=settings.concurrency,
        grace_seconds=settings.grace_seconds,
        metrics=metrics,
        clock=world.clock,
        chance=world.chance,
        gate=gate,
    )
    where = world.socket or settings.http_address
    async with serving(where, metrics.registry, service.faults, notes=service.notes) as address, asyncio.TaskGroup() as group:
        metrics.life("started", queue=queue.url, http=address, concurrency=settings.concurrency)
        keepers = [group.create_task(_forget(store, world, metrics)), *(group.create_task(one()) for one in beside)]
        await service.run(stop)
        for keeper in keepers:
            keeper.cancel()


async def _close_due(pipeline: Pipeline, metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(CLOSE_EVERY_SECONDS)
        try:
            await pipeline.close_due()
        except Exception as error:  # noqa: BLE001  # a defect of ours must not take the messages in hand down with it
            metrics.fault("close", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)


async def _forget(store: Store, world: World, metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(FORGET_EVERY.total_seconds())
        now = world.clock()
        try:
            if await store.claim("forget", world.owner, now, FORGET_EVERY) is Claim.WON:
                metrics.life("forgotten", **await store.prune(now - FORGET_CLAIMS_AFTER, now - FORGET_EVENTS_AFTER, now))
            if await store.claim("forget instances", world.owner, now, FORGET_INSTANCES_EVERY) is Claim.WON:
                metrics.life("instances_forgotten", events=await forget(store, now))
        except StoreError as error:
            metrics.fault("forget", "store", detail=str(error))


def _required(value: str | None, name: str, command: str) -> str:
    if value is None:
        raise SettingsError([f"TRAILMEND_{name}: must be set for `trailmend {command}`; it is the URL of an SQS queue"])
    return value
