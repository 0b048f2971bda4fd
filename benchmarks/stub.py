"""SQS and S3 on one loopback port, in a process of their own, with answers that cost next to nothing: what asks them is what is measured.

`python -m benchmarks.stub PORT FOLDER ACCOUNT` serves the files under FOLDER (bucket/key) as S3 objects. Queues are made by being offered
messages. Speaks SQS's JSON protocol and S3's GET, path style; each message is handed out once, or again when it was given back, and an idle receive
is held as a long poll is. IAM and EC2 refuse (AccessDenied), so a finding makes its calls and learns nothing from them; STS tells
ACCOUNT. One thread over epoll. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html

Its owner asks by GET under `/-/`: `offer` (queue; file, one bucket/key a line; per_second, 0 for all at once) and `told` (queue). Both answer what a
`Ledger` tells, as JSON, times being those of `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from math import inf
from pathlib import Path
from urllib.parse import parse_qsl, quote

from benchmarks import answers

TARGET = re.compile(rb"(?i)\r\nx-amz-target: ?AmazonSQS\.(\w+)")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: ?(\d+)")
QUEUE = re.compile(rb'"QueueUrl": ?"[^"]*/([^"/]+)"')
MOST = re.compile(rb'"MaxNumberOfMessages": ?(\d+)')
WAIT = re.compile(rb'"WaitTimeSeconds": ?(\d+)')
VISIBILITY = re.compile(rb'"VisibilityTimeout": ?(\d+)')
ID = re.compile(rb'"Id": ?"([^"]*)"')
RECEIPT = re.compile(rb'"ReceiptHandle": ?"([^"]*)"')
TOGETHER_SECONDS = 0.001
"""What is asked within so long is answered together: a wake-up for each request would cost as much as its answer, and no AWS answers sooner."""
ACTION = re.compile(rb"[\n&]Action=(\w+)")


class Ledger:
    """One queue: the messages still to come, each from its time on, those not deleted yet, those given back meanwhile, and what was asked."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.left: dict[bytes, bytes] = {}
        self.back: dict[bytes, float] = {}
        self.returned = 0
        self.visibility_seconds = 0
        self.began = self.ended = 0.0
        self.cpu_began = self.cpu_ended = 0.0
        self.first_receive: float | None = None
        self.requests: Counter[str] = Counter()
        self.sent: list[tuple[float, str]] = []

    def offer(self, messages: list[tuple[float, bytes, bytes]]) -> None:
        """Messages, each with the seconds until it is there and its receipt."""
        self.left |= {receipt: told for _, receipt, told in messages}
        self.requests.clear()
        self.ended = 0.0
        self.began, self.cpu_began = time.monotonic(), time.process_time()
        self.waiting.extend((self.began + after, receipt) for after, receipt, _ in messages)

    def take(self, most: int, now: float) -> bytes | None:
        """The answer with up to `most` of the messages that are there, or None."""
        found: list[bytes] = []
        for receipt in [one for one, due in self.back.items() if due <= now][:most]:
            self.back[receipt] = inf  # in hand once more
            found.append(answers.again(self.left[receipt]))
        while self.waiting and len(found) < most and self.waiting[0][0] <= now:
            found.append(self.left[self.waiting.popleft()[1]])
        return answers.received(found) if found else None

    def due(self) -> float:
        """When there will be a message; infinity if none is known of."""
        return min([*self.back.values(), *([self.waiting[0][0]] if self.waiting else [inf])])

    def delete(self, receipts: list[bytes]) -> None:
        for receipt in receipts:
            self.left.pop(receipt, None)
            self.back.pop(receipt, None)
        self._worked()

    def extend(self, receipts: dict[bytes, int]) -> None:
        """Seconds by receipt. Less than a receive asks for means that the message is left, to come back then."""
        given = {
            one: time.monotonic() + seconds for one, seconds in receipts.items() if seconds < self.visibility_seconds and one in self.left
        }
        self.back |= given
        self.returned += len(given)
        self._worked()

    def told(self) -> dict[str, object]:
        """`seconds` and `cpu_seconds` (of this process) are from the offer until every message was deleted or given back."""
        return {
            "left": len(self.left),
            "returned": self.returned,
            "seconds": self.ended - self.began if self.ended else None,
            "cpu_seconds": self.cpu_ended - self.cpu_began if self.ended else None,
            "began": self.began,
            "first_receive": self.first_receive,
            "requests": self.requests,
            "sent": self.sent,
        }

    def _worked(self) -> None:
        if len(self.left) == len(self.back) and not self.ended:
            self.ended, self.cpu_ended = time.monotonic(), time.process_time()


class Stub:
    """Answers requests, told apart by the number of their connection."""

    def __init__(self, folder: Path, account: str) -> None:
        self._folder = folder
        self._account = account
        self._objects: dict[bytes, bytes] = {}
        self._sizes: dict[str, int] = {}
        self._ledgers: dict[bytes, Ledger] = {}
        self._held: dict[int, tuple[float, Ledger, int]] = {}
        self._calls: Counter[str] = Counter()

    def answer(self, connection: int, request: bytes, head: int) -> bytes | None:
        """The answer to a request whose head has `head` bytes; None for a receive that is held until `ready` answers it."""
        if request.startswith(b"GET "):
            path = request[4 : request.index(b" ", 4)]
            return self._owner(path.decode()) if path.startswith(b"/-/") else self._objects.get(path.partition(b"?")[0], answers.MISSING)
        target = TARGET.search(request, 0, head)
        if target is None:
            found = ACTION.search(request, head - 1)
            action = found[1].decode() if found is not None else "unknown"
            self._calls[action] += 1
            return answers.identity(self._account) if action == "GetCallerIdentity" else answers.refused(self._account, action)
        call, queue = target[1], QUEUE.search(request, head)
        ledger = self._ledger(queue[1] if queue is not None else b"")
        ledger.requests[call.decode()] += 1
        if call == b"ReceiveMessage":
            return self._receive(connection, request, head, ledger)
        if call == b"SendMessageBatch":
            ledger.sent.append((time.monotonic(), request[head:].decode()))
        if call == b"DeleteMessageBatch":
            ledger.delete(RECEIPT.findall(request, head))
        if call == b"ChangeMessageVisibilityBatch":
            ledger.extend({one["ReceiptHandle"].encode(): one["VisibilityTimeout"] for one in json.loads(request[head:])["Entries"]})
        if call.endswith(b"Batch"):
            return answers.batch(tuple(ID.findall(request, head)), sent=call == b"SendMessageBatch")
        return answers.depths(len(ledger.waiting))

    def ready(self) -> tuple[list[tuple[int, bytes]], float]:
        """Answers to held receives whose time has come, and for how many seconds there will be no other by itself."""
        now, pause, found = time.monotonic(), 1.0, []
        for connection, (until, ledger, most) in self._held.items():
            answer = ledger.take(most, now) or (answers.received([]) if now >= until else None)
            if answer is not None:
                found.append((connection, answer))
            else:
                pause = min(pause, until - now, ledger.due() - now)
        for connection, _ in found:
            del self._held[connection]
        return found, pause

    def gone(self, connection: int) -> None:
        """Nobody waits on this connection any more."""
        self._held.pop(connection, None)

    def _receive(self, connection: int, request: bytes, head: int, ledger: Ledger) -> bytes | None:
        now = time.monotonic()
        ledger.first_receive = ledger.first_receive or now
        most, wait, ledger.visibility_seconds = (_number(one, request, head) for one in (MOST, WAIT, VISIBILITY))
        answer = ledger.take(most or 1, now)
        if answer is None:
            self._held[connection] = (now + wait, ledger, most or 1)
        return answer

    def _ledger(self, queue: bytes) -> Ledger:
        if queue not in self._ledgers:
            self._ledgers[queue] = Ledger()
        return self._ledgers[queue]

    def _owner(self, asked: str) -> bytes:
        verb, _, query = asked.partition("?")
        options = dict(parse_qsl(query))
        ledger = self._ledger(options["queue"].encode())
        if verb.endswith("offer"):
            names, rate, at = Path(options["file"]).read_text("utf-8").split(), float(options["per_second"]), time.time()
            self._load(names)
            due = [number / rate if rate else 0.0 for number in range(len(names))]
            ledger.offer([(after, *answers.message(name, self._sizes[name], at + after)) for name, after in zip(names, due, strict=True)])
        return answers.json_answer(json.dumps({**ledger.told(), "calls": self._calls}).encode())

    def _load(self, names: list[str]) -> None:
        for name in names:
            if name not in self._sizes:
                body = (self._folder / name).read_bytes()
                self._objects[f"/{quote(name)}".encode()] = answers.stored(body)
                self._sizes[name] = len(body)


class Server:
    """The connections to a stub, on 127.0.0.1, one thread for all."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._poll = select.epoll()
        self._connections: dict[int, socket.socket] = {}
        self._partly: dict[int, bytes] = {}

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
            self._poll.register(listener, select.EPOLLIN)
            while True:
                held, pause = self._stub.ready()
                for number, answer in held:
                    self._send(number, answer)
                for number, _ in self._poll.poll(max(0.0, pause)):
                    if number == listener.fileno():
                        self._accept(listener)
                    else:
                        self._receive(number)
                time.sleep(TOGETHER_SECONDS)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = connection
        self._poll.register(connection, select.EPOLLIN)

    def _receive(self, number: int) -> None:
        try:
            came = self._connections[number].recv(262_144)
        except OSError:
            came = b""
        if not came:
            self._lose(number)
            return
        request = self._partly.pop(number, b"") + came
        head = _whole(request)
        if head is None:
            self._partly[number] = request
            return
        answer = self._stub.answer(number, request, head)
        if answer is not None:
            self._send(number, answer)

    def _send(self, number: int, answer: bytes) -> None:
        try:
            self._connections[number].sendall(answer)
        except OSError:
            self._lose(number)

    def _lose(self, number: int) -> None:
        self._stub.gone(number)
        self._partly.pop(number, None)
        self._connections.pop(number).close()


def _number(of: re.Pattern[bytes], request: bytes, head: int) -> int:
    found = of.search(request, head)
    return int(found[1]) if found is not None else 0


def _whole(request: bytes) -> int | None:
    """How long the head of a request is, or None when not all of the request is there. Nobody here sends a second before the answer."""
    head = request.find(b"\r\n\r\n") + 4
    if head < 4:
        return None
    length = None if request.startswith(b"GET ") else LENGTH.search(request, 0, head)
    return None if length is not None and len(request) < head + int(length[1]) else head


if __name__ == "__main__":
    Server(Stub(Path(sys.argv[2]), sys.argv[3])).serve(int(sys.argv[1]))
