"""A wire to DynamoDB on which what we write arrives, but its answer does not."""

import json
from enum import StrEnum
from http.client import HTTPConnection
from math import inf
from urllib.parse import urlsplit

from kiva_partner.ledger import State
from sockets import HttpServer, answer


class Loss(StrEnum):
    """What is lost of the writes that are meant."""

    FIRST_ANSWER = "the first answer"
    EVERY_ANSWER = "every answer"
    EVERY_REQUEST = "every request"
    REQUESTS_FOR_A_WHILE = "every request for a while"
    ALL_ARRIVES_LATE = "every answer, and the requests arrive late"


MOST = {Loss.FIRST_ANSWER: 1, Loss.REQUESTS_FOR_A_WHILE: 6}
"""How many are lost; six are more than botocore's attempts for one."""


class LossyWire:
    """Passes everything on to `endpoint`, but for what `lose` says."""

    def __init__(self, endpoint):
        self._to = urlsplit(endpoint).netloc
        self._server = HttpServer(self._pass_on)
        self._write = self._loss = None
        self._late = []
        self.lost = 0

    def __enter__(self):
        self._server.__enter__()
        self.url = f"http://127.0.0.1:{self._server.port}"
        return self

    def __exit__(self, *_):
        self._server.__exit__()

    def lose(self, write, loss):
        """From now on, of the writes of this sort: "claim", "settle" or "prove"."""
        self._write, self._loss, self.lost = write, loss, 0

    def heal(self):
        """From now on, nothing is lost."""
        self._write = self._loss = None

    def arrive(self):
        """What is late arrives now."""
        for exchange in self._late:
            self._ask(exchange)
        self._late.clear()

    def _pass_on(self, exchange):
        if not self._is_to_be_lost(exchange):
            exchange.send(self._ask(exchange))
            return True
        self.lost += 1
        match self._loss:
            case Loss.FIRST_ANSWER | Loss.EVERY_ANSWER:
                self._ask(exchange)
            case Loss.ALL_ARRIVES_LATE:
                self._late.append(exchange)
        return False

    def _is_to_be_lost(self, exchange):
        write = exchange.header("x-amz-target").endswith("TransactWriteItems") and _sort_of(exchange.body())
        return write == self._write and self.lost < MOST.get(self._loss, inf)

    def _ask(self, exchange):
        headers = dict(line.split(": ", 1) for line in exchange.head.decode().split("\r\n")[1:])
        connection = HTTPConnection(self._to)
        try:
            connection.request(exchange.method, exchange.target, exchange.body(), headers)
            said = connection.getresponse()
            body = said.read()
        finally:
            connection.close()
        again = [f"{name}: {value}".encode() for name, value in said.getheaders() if name.lower() in _PASSED_BACK]
        return answer(f"{said.status} {said.reason}".encode(), body, *again)


_PASSED_BACK = {"content-type", "x-amz-crc32", "x-amzn-requestid"}


def _sort_of(body):
    """What a transaction of the ledger is about: its rows all get the same sort of state, proofs have none."""
    values = json.loads(body)["TransactItems"][0]["Update"]["ExpressionAttributeValues"]
    if ":state" not in values:
        return "prove"
    return "claim" if values[":state"]["S"] == State.SENDING else "settle"
