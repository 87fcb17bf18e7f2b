"""Servers of this machine that do to a connection what a test wants, and the certificates they show."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import trustme

PATIENCE = 5
"""Seconds after which a server that hangs gives up, so that no thread outlives the tests by more."""


def answer(status=b"200 OK", body=b"", *headers):
    lines = [b"HTTP/1.1 " + status, b"Content-Length: " + str(len(body)).encode(), *headers, b"", body]
    return b"\r\n".join(lines)


def say(*parts):
    """A behaviour: send these bytes and keep the connection for the next request."""

    def behave(exchange):
        exchange.body()
        exchange.send(*parts)
        return True

    return behave


def say_and_hang_up(*parts):
    def behave(exchange):
        say(*parts)(exchange)
        return False

    return behave


def reset(connection):
    """Have the next `close` be a reset instead of a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class Exchange:
    """One request, whose head was read. What is to become of it is the test's affair; its body may go unread."""

    def __init__(self, connection, head, body):
        self.connection = connection
        self.head = head
        self._body = body

    @property
    def request(self):
        """What was read of it so far."""
        return self.head + b"\r\n\r\n" + self._body

    @property
    def method(self):
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self):
        return self.head.split(b" ", 2)[1].decode()

    def header(self, name):
        fields = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n"))
        return next((value.strip() for each, _, value in fields if each.lower() == name), "")

    def body(self, length=None):
        """All of the body, or the beginning of it."""
        length = int(self.header("content-length") or 0) if length is None else length
        if len(self._body) < length and self.header("expect") == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._body) < length:
            chunk = self.connection.recv(length - len(self._body))
            if not chunk:
                raise ConnectionError("the body broke off")
            self._body += chunk
        return self._body

    def send(self, *parts):
        for part in parts:
            self.connection.sendall(part)

    def hang(self):
        """Say nothing more, until the other side gives up."""
        self.connection.settimeout(PATIENCE)
        while self.connection.recv(65_536):
            pass


class Server:
    """Accepts connections and has each served in a thread of its own, by `serve`."""

    def __init__(self, serve):
        self.connections = 0
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)  # `close` alone would not wake who waits in `accept`
        self._socket.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each answer waits 40 ms for an ACK
            threading.Thread(target=self._work, args=(connection,), daemon=True).start()

    def _work(self, connection):
        try:
            self._serve(connection)
        except OSError:
            pass
        finally:
            connection.close()


class HttpServer(Server):
    """Reads requests and hands each to `behave`, for as long as that says to go on with the connection."""

    def __init__(self, behave, tls=None):
        super().__init__(self._exchanges)
        self.exchanges = []
        self._behave = behave
        self._tls = tls

    @property
    def requests(self):
        return [exchange.request for exchange in self.exchanges]

    def _exchanges(self, connection):
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True)
        try:
            while exchange := _next_exchange(connection):
                self.exchanges.append(exchange)
                if not self._behave(exchange):
                    break
        finally:
            connection.close()  # the one that was accepted is an empty shell once TLS is wrapped around it


def _next_exchange(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return Exchange(connection, head, body)


# --- certificates -----------------------------------------------------------------------------------------------------


def certificate(path, *names, days=1):
    """A certificate for hosts or addresses, in a file with authority and key; and a server's context with it."""
    now = datetime.now(UTC)
    authority = trustme.CA()
    made = authority.issue_cert(*names, not_before=now - timedelta(days=10), not_after=now + timedelta(days=days))
    for part in (*made.cert_chain_pems, authority.cert_pem, made.private_key_pem):
        part.write_to_path(path, append=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context
