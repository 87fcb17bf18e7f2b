"""The stub of Kiva for functions in other processes, which know nothing of its names and certificates."""

import json
from urllib.parse import urlsplit

from faults.kiva_stub import GET, POST, TOKEN, KivaStub
from sockets import HttpServer


class PlainKiva(KivaStub):
    """At one address, without TLS. Gives its tokens to `partner`; none of its loans is ever published."""

    def __init__(self):
        super().__init__(certificates=None)
        self.partner = ""
        self._server = HttpServer(self._behave)

    def __enter__(self):
        self.url = f"http://127.0.0.1:{self._open(self._server)}"
        return self

    @property
    def posts(self):
        """Every POST that came, as far as it was read."""
        return [exchange.request for exchange in self._server.exchanges if self._point_of(exchange) == POST]

    def process(self, exchange):
        body = exchange.body()
        point = self._point_of(exchange)
        if point == TOKEN:
            return b"200 OK", json.dumps({**json.loads(self._token()), "partnerId": self.partner}).encode()
        if point == GET:
            return b"200 OK", b'{"total_records": 0, "data": []}'
        return b"200 OK", self._submission(urlsplit(exchange.target).path.rpartition("/")[2], json.loads(body))

    @staticmethod
    def _point_of(exchange):
        return TOKEN if exchange.target == "/oauth/token" else exchange.method
