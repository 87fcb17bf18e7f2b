"""Kiva and the payload bucket on sockets of this machine: they fail at every point, and keep books of what they did.

The functions call the hosts that they always call, over TLS. Only what their names stand for is decided here, so that a
name, an address and a certificate can be at fault too.
"""

import json
import socket
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import count
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit

from deployment import BUCKET
from fakes import API_BASE_URL, TOKEN_URL
from faults.canaries import NEW_TOKEN
from kiva_answers import created, token_answer
from sockets import PATIENCE, HttpServer, Server, answer, certificate, reset

TOKEN, POST, GET, IMAGE = POINTS = ("token", "POST", "GET", "image")
"""What can be at fault: the token endpoint, a submission, a read at Kiva, and a read of the payload bucket."""

BUCKET_URL = "https://s3.kiva.test"
_AUTHORISATION, _API, _BUCKET = _HOSTS = [urlsplit(url).netloc for url in (TOKEN_URL, API_BASE_URL, BUCKET_URL)]
_HOST_OF = {TOKEN: _AUTHORISATION, POST: _API, GET: _API, IMAGE: _BUCKET}

NAME_SERVER_HANGS = 0.7
"""Seconds; more than the functions should wait for a connection."""


class Certificates:
    """One that is good and three that prove nothing, each for one reason only. `trusted` is the functions' bundle."""

    def __init__(self, folder):
        good, self.good = certificate(folder / "good.pem", *_HOSTS)
        expired, self.expired = certificate(folder / "expired.pem", *_HOSTS, days=-1)
        other, self.of_another_host = certificate(folder / "other.pem", "elsewhere.test")
        _, self.untrusted = certificate(folder / "untrusted.pem", *_HOSTS)
        self.trusted = folder / "trusted.pem"
        self.trusted.write_bytes(b"".join(path.read_bytes() for path in (good, expired, other)))


class KivaStub:
    """Takes everything with fresh references, until `fail` says otherwise.

    `processed` counts what Kiva did for each loan: a submission counts once its last byte was read, unless the fault is
    a refusal. `references` is what it was told in return, whether that arrived or not; `arrivals` counts POSTs.
    """

    def __init__(self, certificates):
        self.processed = Counter()
        self.references = defaultdict(list)
        self.arrivals = 0
        self.objects = {}
        self._drafts = []
        self._ids = count(1)
        self._lock = threading.Lock()
        self._certificates = certificates
        self._point = self._fault = None
        self._servers = ExitStack()
        self._resolve = socket.getaddrinfo

    def __enter__(self):
        self._port = self._open(HttpServer(self._behave, self._certificates.good))
        self._servers.enter_context(patch.object(socket, "getaddrinfo", self._addresses))
        return self

    def __exit__(self, *_):
        self._servers.close()

    def fail(self, point, fault):
        """Have `fault` happen at `point` from now on."""
        self._point, self._fault = point, fault

    def heal(self):
        self._point = self._fault = None

    # --- what Kiva and the bucket do ---

    def process(self, exchange):
        """Do what is asked for, and give the status and the body that say so."""
        host, path = exchange.header("host"), urlsplit(exchange.target).path
        body = exchange.body()
        if host == _AUTHORISATION:
            return b"200 OK", self._token()
        query = parse_qs(urlsplit(exchange.target).query)
        if host == _BUCKET:
            return self._bucket(exchange.method, unquote(path).removeprefix(f"/{BUCKET}").lstrip("/"), query, body)
        if exchange.method == "GET":
            return b"200 OK", self._loans(query)
        return b"200 OK", self._submission(path.rpartition("/")[2], json.loads(body))

    def _token(self):
        return json.dumps(token_answer(f"{next(self._ids)}-{NEW_TOKEN}")).encode()

    def _submission(self, name, content):
        rows = [content] if name == "loan_draft" else content[name]
        with self._lock:
            number = next(self._ids)
            if name == "loan_draft":
                self._drafts.append({**content, "created": int(time.time())})
            references = created(name, number)
            for row in rows:
                loan = _ids_of(row)[0]
                self.processed[loan] += 1
                self.references[loan].append(references)
        return json.dumps({"code": "api.success", "problems": [], **references}).encode()

    def _loans(self, query):
        """Every draft shows at once, as if somebody had published it."""
        loans = [
            {
                "kiva_id": str(2_990_000 + number),
                "uuid": f"00000000-0000-4000-9000-{number:012}",
                "internal_loan_id": _ids_of(draft)[0],
                "internal_client_id": _ids_of(draft)[1],
                "name": draft["entreps"][0]["first_name"],
                "create_time": draft["created"],
            }
            for number, draft in enumerate(self._drafts)
            if _ids_of(draft)[0] in query.get("query", [_ids_of(draft)[0]])
        ]
        for loan in loans:
            self.references[loan["internal_loan_id"]].append({"kiva_id": loan["kiva_id"], "loan_uuid": loan["uuid"]})
        return json.dumps({"total_records": len(loans), "data": loans}).encode()

    def _bucket(self, method, key, query, body):
        match method:
            case "PUT":
                self.objects[key] = body
                return b"200 OK", b""
            case "DELETE":
                self.objects.pop(key, None)
                return b"204 No Content", b""
        if "list-type" in query:
            found = sorted(each for each in self.objects if each.startswith(query["prefix"][0]))
            contents = "".join(f"<Contents><Key>{each}</Key></Contents>" for each in found)
            return b"200 OK", f"<ListBucketResult>{contents}</ListBucketResult>".encode()
        if key in self.objects:
            return b"200 OK", self.objects[key]
        return b"404 Not Found", b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"

    # --- how it fails ---

    def _behave(self, exchange):
        point = self._point_of(exchange)
        self.arrivals += point == POST
        fault = self._fault if point == self._point else None
        if not (fault and fault.act):
            exchange.send(answer(*self.process(exchange), b"Connection: close"))
            return False
        if fault.once:
            self.heal()
        return fault.act(exchange, self)

    @staticmethod
    def _point_of(exchange):
        host = exchange.header("host")
        if host == _AUTHORISATION:
            return TOKEN
        if host == _API:
            return exchange.method
        return IMAGE if exchange.method == "GET" and "list-type" not in exchange.target else None

    def _addresses(self, host, port, *more, **named):
        """The resolver: where a name leads to."""
        if host not in _HOSTS:
            return self._resolve(host, port, *more, **named)
        door = self._fault.door if self._point and _HOST_OF[self._point] == host else None
        ports = door(self) if door else [self._port]
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)) for port in ports]

    def _open(self, server):
        return self._servers.enter_context(server).port

    # --- doors: the ports that a host's name leads to while the way there is at fault ---

    def no_such_name(self):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def name_server_hangs(self):
        time.sleep(NAME_SERVER_HANGS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def refused(self):
        bound = self._servers.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1]]

    def silent(self):
        """Several addresses, and at none of them anybody who answers: their queues are full."""
        listening = self._servers.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            knocking = self._servers.enter_context(socket.socket())
            knocking.setblocking(False)  # noqa: FBT003
            knocking.connect_ex(listening.getsockname())
        return [listening.getsockname()[1]] * 3

    def expired(self):
        return [self._open(HttpServer(self._behave, self._certificates.expired))]

    def untrusted(self):
        return [self._open(HttpServer(self._behave, self._certificates.untrusted))]

    def of_another_host(self):
        return [self._open(HttpServer(self._behave, self._certificates.of_another_host))]

    def no_handshake(self):
        return [self._open(Server(_listen_only))]

    def reset_handshake(self):
        return [self._open(Server(reset))]

    def no_tls(self):
        return [self._open(Server(lambda connection: connection.sendall(answer(b"400 Bad Request"))))]


def _ids_of(row):
    """By which Kiva knows a loan, and whose it is. A draft of one person has those of that person."""
    loan = next(it for it in (row, *row.get("entreps", [])) if "loan_id" in it or "internal_loan_id" in it)
    return loan.get("internal_loan_id") or loan["loan_id"], loan.get("internal_client_id") or loan.get("client_id")


def _listen_only(connection):
    connection.settimeout(PATIENCE)
    while connection.recv(65_536):
        pass
