"""A stage in one process and in simulated time: the real functions, several environments of each, and their queues.

The numbers are those of template.yaml. Only AWS's clients are stand-ins (`poller.Sqs`, `in_process`): in simulated
time, a queue must count this time, and thousands of deliveries must not cost thousands of HTTP requests.
"""

import json
import os
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from itertools import count
from types import SimpleNamespace
from unittest import mock
from uuid import uuid4

from cli.stacks import KINDS
from deployment import ENVIRONMENT, FUNCTIONS, TABLE, credentials
from faults.in_process import S3, DynamoDb
from faults.poller import EventSource, Queue, Sqs
from kiva_partner import breaker, ledger, relay, runtime, tokens
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.sending import Sending
from template.cloudformation import defaults, read

TEMPLATE = read()
SHARED = ("_tls", "_aws_client")  # costly, and without a state that a test could see
BUILT = {
    name: value.__wrapped__
    for name, value in vars(runtime).items()
    if hasattr(value, "cache_clear") and name not in SHARED
}
INVOCATION_SECONDS = TEMPLATE["Globals"]["Function"]["Timeout"]


def parallel_calls(kind):
    return int(defaults(TEMPLATE)[f"{KINDS[kind]}ParallelCalls"])


def concurrency(kind):
    """Environments that work on a queue at once."""
    return int(defaults(TEMPLATE)[f"{KINDS[kind]}MaximumConcurrency"])


def batch_size(kind):
    return int(defaults(TEMPLATE)[f"{KINDS[kind]}BatchSize"])


def body(kind, loan):
    """One event of one loan."""
    match kind:
        case Kind.LOAN_DRAFT:
            entrep = {"client_id": "C", "loan_id": loan, "first_name": "A", "gender": "female", "amount": 100}
            return json.dumps({"currency": "KES", "entreps": [entrep]})
        case Kind.JOURNAL_UPDATE:
            item = {"internal_loan_id": loan, "internal_client_id": "C", "subject": "S", "body": "B"}
            return json.dumps({"journals": [item]})
        case Kind.REPAYMENT:
            row = {"loan_id": loan, "client_id": "C", "amount": 100}
            return json.dumps({"period": "2026-10", "repayments": [row]})


class Secrets:
    """Secrets Manager, as the calls that the layer makes."""

    class ResourceNotFoundException(Exception):
        """As boto3's; also the answer for a secret without a value."""

    exceptions = SimpleNamespace(ResourceNotFoundException=ResourceNotFoundException)

    def __init__(self):
        self._versions = defaultdict(list)
        self._ids = count(1)

    def get_secret_value(self, *, SecretId, VersionStage="AWSCURRENT"):  # noqa: N803
        versions = self._versions[SecretId][::-1]
        number = ("AWSCURRENT", "AWSPREVIOUS").index(VersionStage)
        if len(versions) <= number:
            raise self.ResourceNotFoundException
        version, text = versions[number]
        return {"SecretString": text, "VersionId": f"00000000-0000-4000-8000-{version:012}"}

    def put_secret_value(self, *, SecretId, SecretString):  # noqa: N803
        self._versions[SecretId] = [*self._versions[SecretId], (next(self._ids), SecretString)][-2:]


class Context:
    """Lambda's context; its time is the simulated one."""

    aws_request_id = "11111111-2222-3333-4444-555555555555"
    function_name = "function"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:function"

    def __init__(self):
        self._ends = time.time() + INVOCATION_SECONDS

    def get_remaining_time_in_millis(self):
        return max(0, int((self._ends - time.time()) * 1000))


_running = threading.local()


class Environment:
    """One execution environment of a function: what the runtime has built in it, in place for its threads."""

    def __init__(self, module, variables):
        self._handler = import_module(f"{module}.app").handler
        self.built = {name: cache(build) for name, build in BUILT.items()}
        with mock.patch.dict(os.environ, variables), self._in_place():
            runtime.settings()
            runtime.telemetry()

    def __call__(self, event):
        with self._in_place():
            return self._handler(event, Context())

    @contextmanager
    def _in_place(self):
        before = getattr(_running, "environment", None)
        _running.environment = self
        try:
            yield
        finally:
            _running.environment = before


def _built(name, *arguments):
    return _running.environment.built[name](*arguments)


def _threads(size):
    """The relay's threads, belonging to the environment that starts them."""
    environment = _running.environment
    return ThreadPoolExecutor(size, initializer=lambda: setattr(_running, "environment", environment))


class Stage:
    """All functions of a stage; time stands still but for `pass_time` and for whoever sleeps in it."""

    def __init__(self, kiva, pass_time, monkeypatch):
        self.kiva = kiva
        self.pass_time = pass_time
        self.dynamodb, self.s3, self.secrets = DynamoDb(), S3(), Secrets()
        self.secrets.put_secret_value(
            SecretId=ENVIRONMENT["KIVA_CREDENTIALS_SECRET"],
            SecretString=credentials(kiva.secret),
        )
        self.queues = {kind: _queue(kind) for kind in Kind}
        outcomes = Queue("outcomes-dead-letters", time.time)
        every = [*self.queues.values(), *(queue.dead_letters for queue in self.queues.values()), outcomes]
        self.clients = {
            "dynamodb": self.dynamodb,
            "s3": self.s3,
            "secretsmanager": self.secrets,
            "sqs": Sqs(*every),
        }
        for name in BUILT:
            monkeypatch.setattr(runtime, name, partial(_built, name))
        monkeypatch.setattr(relay, "ThreadPoolExecutor", _threads)
        monkeypatch.setattr(runtime, "_aws_client", lambda service: self.clients[service])
        for module in (breaker.Breaker, ledger.Ledger, relay.Relay, tokens.TokenProvider):
            monkeypatch.setitem(module.__init__.__kwdefaults__, "sleep", pass_time)
        self._variables = {
            **ENVIRONMENT,
            # Powertools keeps a logger for each name, and with it the stdout of the test that made it.
            "POWERTOOLS_SERVICE_NAME": f"tests-{uuid4()}",
            "POWERTOOLS_LOG_LEVEL": "CRITICAL",  # nobody reads the lines of simulated days
        }
        self.sources = [
            EventSource(self.queues[kind], self.new(kind), batch_size(kind))
            for kind in Kind
            for _ in range(concurrency(kind))
        ]
        self._lock = threading.Lock()
        self._housekeeping = Environment(
            "housekeeping",
            self._variables
            | {f"{kind.upper()}_QUEUE_URL": queue.url for kind, queue in self.queues.items()}
            | {f"{kind.upper()}_DEAD_LETTER_QUEUE_URL": queue.dead_letters.url for kind, queue in self.queues.items()}
            | {"OUTCOMES_DEAD_LETTER_QUEUE_URL": outcomes.url},
        )

    def new(self, kind, **variables):
        """An execution environment of its own, as after a cold start."""
        queue = self.queues[kind]
        urls = {"QUEUE_URL": queue.url, "DEAD_LETTER_QUEUE_URL": queue.dead_letters.url}
        parallel = {"PARALLEL_CALLS": str(parallel_calls(kind))}
        return Environment(FUNCTIONS[kind], self._variables | urls | parallel | variables)

    def send(self, kind, *loans):
        for loan in loans:
            self.queues[kind].send(body(kind, loan))

    def keep_house(self):
        return self._housekeeping({"detail-type": "Scheduled Event"})

    def confirm_restored(self):
        """A person's word that what was sent since the backup was judged."""
        scope = f"{ENVIRONMENT['KIVA_ENVIRONMENT']}#{ENVIRONMENT['KIVA_PARTNER_ID']}"
        assert Sending(lambda: self.dynamodb, TABLE, scope).confirm("somebody", "nothing was sent meanwhile")

    def deliver(self, seconds=0.0, *, every=60.0):
        """Let time pass, in steps: at each, what is visible is delivered; housekeeping runs every five minutes."""
        end = time.time() + seconds
        while True:
            while any(source.poll() for source in self.sources):
                pass
            if time.time() >= end:
                return
            before = time.time()
            self.pass_time(min(every, end - before))
            if before // 300 != time.time() // 300:
                self.keep_house()

    def deliver_meanwhile(self):
        """One more batch, in an environment that is idle; to be called while others wait for Kiva's answer."""
        with self._lock:
            source = next((each for each in self.sources if not each.busy and each.queue.visible), None)
            records = source.receive() if source else []
        if records:
            source.invoke(records)

    def rows(self):
        """Every submission of the ledger, as its item."""
        return [item for item in self.dynamodb.items() if "fingerprint" in item]

    def loans(self, *states):
        """(kind, loan) of the submissions in these states."""
        return {
            (Kind(item["kind"]["S"]), item["loan_id"]["S"].rpartition("#")[2])
            for item in self.rows()
            if State(item["state"]["S"]) in states
        }

    def calls(self, *states):
        """The calls to Kiva that the submissions in these states went with."""
        return {
            item["outcome"]["M"]["call_id"]["S"]
            for item in self.rows()
            if State(item["state"]["S"]) in states and "call_id" in item.get("outcome", {}).get("M", {})
        }


def _queue(kind):
    queue = TEMPLATE["Resources"][f"{KINDS[kind]}Queue"]["Properties"]
    letters = TEMPLATE["Resources"][f"{KINDS[kind]}DeadLetterQueue"]["Properties"]
    dead_letters = Queue(f"{FUNCTIONS[kind]}-dead-letters", time.time, retention=letters["MessageRetentionPeriod"])
    return Queue(
        FUNCTIONS[kind],
        time.time,
        visibility_timeout=queue["VisibilityTimeout"],
        retention=queue["MessageRetentionPeriod"],
        dead_letters=dead_letters,
        max_receive_count=queue["RedrivePolicy"]["maxReceiveCount"],
    )
