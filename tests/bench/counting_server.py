"""What both stubs are: an HTTP/1.1 server in a process of its own, which counts what it is asked for.

One event loop and no threads, so every answer is atomic. The process that started it sets it, asks for its counts and
ends it over standard input and output, by lines of JSON: so that counts no call, and it ends when that process does.
Connections stay open. Requests that come before the last one was answered, which no client of ours sends, have no place
here.
"""

import asyncio
import gc
import re
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

import msgspec

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CONTINUE = re.compile(rb"(?i)\r\nexpect: *100-continue")


@dataclass(slots=True)
class Request:
    head: bytes
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.head.split(b" ", 2)[1].decode())

    def header(self, name: bytes) -> str:
        found = re.search(rb"(?i)\r\n" + name + rb": *([^\r]*)", self.head)
        return found[1].decode() if found else ""


@dataclass(slots=True)
class Answer:
    """`after` is what it takes in seconds: the request was carried out when it came, and this is sent later."""

    body: bytes = b""
    status: HTTPStatus = HTTPStatus.OK
    after: float = 0
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def __bytes__(self) -> bytes:
        fields = {**self.headers, "Content-Length": len(self.body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} {self.status.phrase}\r\n{lines}\r\n".encode() + self.body


class Service:
    """What answers. `settings` can be set from outside, those and no others."""

    def __init__(self, **settings):
        self.settings = settings
        self.counted = Counter()

    def connected(self):
        """Somebody connected."""

    def answer(self, request):
        raise NotImplementedError

    def counts(self):
        return dict(self.counted)

    def reset(self):
        """Forget what came in so far."""
        self.counted.clear()

    def set(self, **settings):
        if unknown := settings.keys() - self.settings:
            raise ValueError(f"there is no such setting: {', '.join(unknown)}")
        self.settings |= settings


class _Connection(asyncio.Protocol):
    def __init__(self, service):
        self._service = service
        self._received = bytearray()
        self._request = None
        self._missing = 0

    def connection_made(self, transport):
        self._transport = transport
        self._service.connected()

    def data_received(self, data):
        self._received += data
        if self._request is None:
            head, end, body = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            self._request, self._received = Request(bytes(head)), body
            length = _LENGTH.search(head)
            self._missing = int(length[1]) if length else 0
            if _CONTINUE.search(head) and len(body) < self._missing:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(self._received) >= self._missing:
            request, self._request = self._request, None
            request.body = bytes(self._received)
            self._received.clear()
            self._serve(request)

    def _serve(self, request):
        try:
            answer = self._service.answer(request)
        except Exception:  # noqa: BLE001 a mistake in here must not look like one of those who are measured
            traceback.print_exc()
            answer = Answer(b'{"message": "the stub failed; why stands on its standard error"}', HTTPStatus.NOT_FOUND)
        if answer.after:
            asyncio.get_running_loop().call_later(answer.after, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer):
        if not self._transport.is_closing():
            self._transport.write(bytes(answer))


def serve(service, tls=None):
    """Run until standard input ends. The first line on standard output is the port."""
    gc.disable()  # what is kept is bytes, and looking through them takes a second each time
    asyncio.run(_serve(service, tls))


async def _serve(service, tls):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", 0, ssl=tls, backlog=1024)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    _say(server.sockets[0].getsockname()[1])
    while order := await orders.readline():
        name, settings = msgspec.json.decode(order)
        _say({"counts": service.counts, "set": service.set, "reset": service.reset}[name](**settings))


def _say(value):
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
