"""Sees every call that the product makes of AWS, and whether the part that makes it says so.

Whose a call is, is told by the innermost frame that is neither Python's nor a library's: a test's own call is nobody's business, one from `worker/` is
held to what its part states (`calls` of an action, a fact or a sink, `AWS_CALLS` of a module). A call outside raises `OutsideError` where it is made, and
is written down, because product code may take an exception for an answer of AWS. A test's wrapper of a client is looked through where it has a local
`__tracebackhide__`.

It imports nothing but Python's own and watches modules as they are loaded, because it lives in child processes too: `follow` is called by the
`sitecustomize.py` of a folder that tests put on PYTHONPATH (`within_policy.py`), and costs them nothing that they would notice. All processes append to
one file, a line for each new call: part, call and fault, between tabs.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import wraps
from types import FrameType
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRODUCT = os.path.join(ROOT, "worker") + os.sep
NO_PRODUCT = (os.path.join(PRODUCT, "local") + os.sep,)
"""The demo's stage: it plays whoever deploys and attacks."""
BELOW = tuple(os.path.join(PRODUCT, name) for name in ("lane.py", "http1.py"))
"""What makes calls for others, as the SDK does."""
FILE = "calls.tsv"
MADE_OF = {"Put", "Delete"}
"""The writes for which a transaction of ours is allowed."""


class OutsideError(AssertionError):
    """The product called what no part of it says that it calls."""


class Recorder:
    """What this process has seen. `folder` holds the file of all processes; while it is None nothing is held to anything."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self._written: set[tuple[int, str, str, str]] = set()
        self.fact: ContextVar[Any] = ContextVar("fact", default=None)

    def saw(self, call: str, parameters: Any = None) -> None:
        """A call is about to be made, from two frames up. Raises `OutsideError`."""
        if self.folder is None:
            return
        frames = _own(sys._getframe(2))
        first = next(frames, None)
        if first is None or not _is_product(first) or first.f_globals.get("__name__") == "worker.enrich.lookups":
            return  # a test's own, or a fact's, which `asked` is told of
        part, calls = _part(first, frames)
        if calls is None:
            self._tell(
                part, call, f"{part} calls {call}, and no part says so: state it beside the code as AWS_CALLS, or as `calls` of its class"
            )
        elif call not in calls:
            self._tell(part, call, f"{part} calls {call} and does not say so: add it to the calls that it states")
        else:
            self._tell(part, call, _more(call, parameters))

    def asked(self, service: str, operation: str) -> None:
        """A fact asks a question, of AWS or of what stands in its place. Raises `OutsideError`."""
        kind = self.fact.get()
        if kind is None or self.folder is None:
            return  # a test's own question
        from botocore import xform_name

        stated = {(call.partition(":")[0], xform_name(call.partition(":")[2])): call for call in kind.calls}
        call = stated.get((service, operation))
        part = f"fact {kind.name}"
        fault = "" if call else f"{part} asks {service}:{operation} and does not say so: add it to the `calls` of its FactKind"
        self._tell(part, call or f"{service}:{operation}", fault)

    def _tell(self, part: str, call: str, fault: str) -> None:
        told = (os.getpid(), part, call, fault)
        if told not in self._written and self.folder is not None:
            self._written.add(told)
            # Opened for each line: a process may be a fork of another, and any may be killed.
            file = os.open(os.path.join(self.folder, FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(file, f"{part}\t{call}\t{fault}\n".encode())
            os.close(file)
        if fault:
            raise OutsideError(fault)


def _own(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of our own code, the innermost first, without those that stand for the SDK."""
    while frame is not None:
        path = frame.f_code.co_filename
        ours = path.startswith(ROOT + os.sep) and "site-packages" not in path and path not in BELOW and path != __file__
        if ours and (_is_product(frame) or "__tracebackhide__" not in frame.f_locals):
            yield frame
        frame = frame.f_back


def _is_product(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith(PRODUCT) and not path.startswith(NO_PRODUCT)


def _part(first: FrameType, outer: Iterator[FrameType]) -> tuple[str, Any]:
    """Whose call it is, and what that part states; None where no part can be told."""
    for frame in (first, *outer):
        if not _is_product(frame):
            break
        owner: Any = frame.f_locals.get("self")
        if type(owner).__name__ == "Attempt":
            owner = owner.task.action
        stated: Any = getattr(type(owner), "calls", None)
        if hasattr(stated, "reads"):
            return f"action {owner.name}", (*stated.reads, *stated.changes, *stated.destroys)
        if isinstance(stated, tuple):
            return f"sink {owner.kind}", stated
        if isinstance(stated := frame.f_globals.get("AWS_CALLS"), tuple):
            return str(frame.f_globals["__name__"]), stated
    return f"{first.f_code.co_filename[len(ROOT) + 1 :]}:{first.f_lineno}", None


def _more(call: str, parameters: Any) -> str:
    """What a call takes beside what its name says, by its parameters, and is not allowed."""
    if call == "dynamodb:TransactWriteItems":
        made_of = {kind for item in parameters["TransactItems"] for kind in item}
        if not made_of <= MADE_OF:
            return f"a transaction of {', '.join(sorted(made_of - MADE_OF))}: allow that in worker/authorization.py"
    if call == "sts:AssumeRole" and "Tags" in parameters:
        return "AssumeRole with session tags takes sts:TagSession: allow that in worker/authorization.py"
    return ""


# What is watched.


def _sdk(recorder: Recorder, module: Any) -> None:
    made = module.AioBaseClient._make_api_call

    @wraps(made)
    async def watched(client: Any, operation: str, parameters: Any) -> Any:
        recorder.saw(f"{client.meta.service_model.service_name}:{operation}", parameters)
        return await made(client, operation, parameters)

    module.AioBaseClient._make_api_call = watched


def _plain_sdk(recorder: Recorder, module: Any) -> None:
    made = module.BaseClient._make_api_call

    @wraps(made)
    def watched(client: Any, operation: str, parameters: Any) -> Any:
        recorder.saw(f"{client.meta.service_model.service_name}:{operation}", parameters)
        return made(client, operation, parameters)

    module.BaseClient._make_api_call = watched


def _lane(recorder: Recorder, module: Any) -> None:
    made = module.Lane._ask

    @wraps(made)
    async def watched(lane: Any, method: str, path: str, query: str, headers: Any, *more: Any) -> Any:
        target = dict(headers).get("x-amz-target", ".GetObject" if method == "GET" else f".{method}")
        recorder.saw(f"{lane._service}:{target.partition('.')[2]}")
        return await made(lane, method, path, query, headers, *more)

    module.Lane._ask = watched


OBSTORE = {"delete": "DeleteObject", "get": "GetObject", "head": "GetObject", "list": "ListObjectsV2", "put": "PutObject"}


def _obstore(recorder: Recorder, module: Any) -> None:
    for name, operation in OBSTORE.items():
        for spelt in (name, f"{name}_async"):
            if hasattr(module, spelt):
                setattr(module, spelt, _told(recorder, getattr(module, spelt), f"s3:{operation}"))


def _told(recorder: Recorder, made: Callable[..., Any], call: str) -> Callable[..., Any]:
    def watched(*arguments: Any, **more: Any) -> Any:
        recorder.saw(call)
        return made(*arguments, **more)

    return watched


def _facts(recorder: Recorder, module: Any) -> None:
    made = module.FactKind.__init__

    @wraps(made)
    def watched(kind: Any, *arguments: Any, **more: Any) -> None:
        made(kind, *arguments, **more)
        learn = kind.learn
        if learn.__module__.startswith("worker."):  # a test's kind is the test's business

            @wraps(learn)
            async def learnt(case: Any) -> Any:
                before = recorder.fact.set(kind)
                try:
                    return await learn(case)
                finally:
                    recorder.fact.reset(before)

            object.__setattr__(kind, "learn", learnt)

    module.FactKind.__init__ = watched


def _lookups(recorder: Recorder, module: Any) -> None:
    made = module.Lookups.ask

    @wraps(made)
    async def watched(lookups: Any, call: Any, *more: Any, **named: Any) -> Any:
        # Here and not where it is sent: a fact's question may have been answered to another.
        recorder.asked(call.service, call.operation)
        return await made(lookups, call, *more, **named)

    module.Lookups.ask = watched


WATCHED: dict[str, Callable[[Recorder, Any], None]] = {
    "aiobotocore.client": _sdk,
    "botocore.client": _plain_sdk,
    "obstore": _obstore,
    "worker.enrich.fact": _facts,
    "worker.enrich.lookups": _lookups,
    "worker.lane": _lane,
}


class _Finder:
    """Has a module watched once it is loaded. Its base in `importlib.abc` would cost every child process a tenth of a second."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._looked_for: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        watch = WATCHED.get(name)
        if watch is None or name in self._looked_for:
            return None
        self._looked_for.add(name)
        spec = importlib.util.find_spec(name)
        loader: Any = spec and spec.loader
        if loader is not None:
            load = loader.exec_module

            def loaded(module: Any) -> None:
                load(module)
                watch(self._recorder, module)

            loader.exec_module = loaded
        return spec


def follow(folder: str | None) -> Recorder:
    """Watch this process from here on. What is loaded already is watched too, but for the facts: so this comes first."""
    recorder = Recorder(folder)
    for name in WATCHED.keys() & sys.modules.keys():
        WATCHED[name](recorder, sys.modules[name])
    finder: Any = _Finder(recorder)
    sys.meta_path.insert(0, finder)
    return recorder
