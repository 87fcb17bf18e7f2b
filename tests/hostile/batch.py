"""A body in one batch between two neighbours, through all that stands behind a queue: theirs is not to be its fate."""

import json
import logging
import re
from contextlib import ExitStack
from itertools import count
from unittest import mock

from faults.bookkeeping_kiva import BookkeepingKiva
from faults.books import body as message
from faults.poller import MAX_MESSAGE_BYTES, EventSource
from faults.world import InTurn, World
from hostile.mutator import MARKER
from hostile.oracle import UNPRINTABLE
from kiva_partner import relay
from kiva_partner.messages import parse
from kiva_partner.queues import MAX_REASON
from kiva_partner.settings import KINDS, UnknownPolicy

CARRIED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
"""What SQS takes (API Reference, SendMessage). Other texts cannot come by a queue."""

AT_ONCE = 100
"""Batches that one world sees: its ledger grows, and so does what the imitation of Kiva remembers."""

_log = logging.getLogger("kiva_partner")


class Batches:
    """Delivers bodies. A context: within it, Kiva is an imitation, and what the layer logs is read."""

    def __enter__(self):
        self._stack = ExitStack()
        self._lines = _Lines()
        self._stack.enter_context(mock.patch.object(relay, "ThreadPoolExecutor", InTurn))
        self._stack.enter_context(mock.patch.object(_log, "handlers", [self._lines]))
        self._stack.enter_context(mock.patch.object(_log, "propagate", new=False))
        self._kiva = self._stack.enter_context(BookkeepingKiva())
        self._numbers = count(10_000_000)
        self._left = 0
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def deliver(self, kind, body):
        """False when it cannot come by a queue at all."""
        text = body.decode("utf-8", "surrogateescape")
        if len(body) > MAX_MESSAGE_BYTES or not CARRIED.fullmatch(text):
            return False
        self._left = self._left - 1 if self._left else self._renewed()
        neighbours = [message(kind, next(self._numbers), 10) for _ in range(2)]
        queue, environment = self._world.queues[kind], self._world.environment()
        for each in (neighbours[0], text, neighbours[1]):
            queue.send(each)
        source = EventSource(
            queue, lambda event: environment.invoke(lambda: environment.consume(kind, event["Records"]))
        )
        assert source.poll() == 3
        assert source.responses == [{"batchItemFailures": []}], "something comes again, though all was settled"
        assert not self._world.telemetry.unexpected_errors
        for neighbour in neighbours:
            for submission in parse(kind, neighbour, self._world.settings.rules).submissions:
                assert self._kiva.processed[kind, submission.loan_id] == 1, "a neighbour was not submitted"
        self._check(queue.dead_letters, text)
        return True

    def _renewed(self):
        self._kiva.mock.calls.reset()
        self._kiva.log.clear()
        self._kiva.processed.clear()
        self._world = World(self._kiva, dict.fromkeys(KINDS, UnknownPolicy.HOLD))
        return AT_ONCE

    def _check(self, dead_letters, text):
        letters = dead_letters.receive(10)
        assert len(letters) <= 1
        for letter in letters:
            reason = letter["messageAttributes"]["Reason"]["stringValue"]
            assert letter["body"] == text or json.loads(letter["body"]).keys() == {"body_in_bucket"}
            assert 0 < len(reason) <= MAX_REASON
            self._lines.written.append(reason)
            dead_letters.delete(letter["receiptHandle"])
        for line in self._lines.written:
            assert MARKER not in line, "a line of the log or a reason shows a value"
            assert not UNPRINTABLE.search(line), "a line of the log or a reason holds what no terminal should get"
        self._lines.written.clear()


class _Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.written = []

    def emit(self, record):
        self.written.append(record.getMessage())
