"""What the state machine runs in: queues, tables, a Kiva, and environments that can be interrupted anywhere.

Every call that leaves an environment passes a step before it is done and one after; at any of them something else may
go on, the call may fail, or the environment may end. One thread and one clock, so that what is found is found again.
"""

from copy import replace
from functools import cache

from hypothesis import note

from deployment import BUCKET, ENVIRONMENT, TABLE
from fakes import FakeClock, FakeTokens
from faults.in_process import S3, DynamoDb
from faults.poller import Died, Queue, Sqs
from kiva_partner import relay
from kiva_partner.breaker import Breaker
from kiva_partner.catalogue import Catalogues
from kiva_partner.client import KivaClient, new_ssl_context
from kiva_partner.decisions import Decisions
from kiva_partner.housekeeping import RETENTION_SECONDS, Housekeeping
from kiva_partner.ledger import Ledger
from kiva_partner.messages import Kind
from kiva_partner.pa2 import Review
from kiva_partner.payloads import Payloads
from kiva_partner.queues import Consumer, Queues
from kiva_partner.sending import Sending
from kiva_partner.settings import Settings

INVOCATION_SECONDS = 300
VISIBILITY = 1860
MOST_RECEIVES = 6
"""So few that messages do reach the dead letters by being received too often; the functions are told so, too."""

SETTINGS = replace(Settings.from_environment(ENVIRONMENT), parallel_calls=2, journals_per_call=2, repayments_per_call=2)

tls = cache(new_ssl_context)


class InTurn:
    """The relay's threads, one call after the other: what is found once is found again."""

    def __init__(self, size):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, function, items):
        return [function(item) for item in items]


class Silent:
    """Telemetry that says nothing, but remembers what nobody expected."""

    def __init__(self):
        self.unexpected_errors = []

    def unexpected(self, what, error):
        if not isinstance(error, Lost):
            self.unexpected_errors.append(f"{what}: {error!r}")

    def submissions(self, *_):
        pass

    refused = expired = stuck = count = decided = received = submissions


class Lost(Exception):
    """AWS did not answer."""


class World:
    """All that environments share. `step` is passed by every call; `ends` is when the running invocation must end."""

    def __init__(self, kiva, policies):
        self.clock = FakeClock()
        self.dynamodb, self.s3 = DynamoDb(), S3()
        self.queues = {}
        for kind in Kind:
            letters = Queue(f"{kind}-letters", self.clock, retention=float("inf"))
            self.queues[kind] = Queue(
                kind,
                self.clock,
                visibility_timeout=VISIBILITY,
                retention=RETENTION_SECONDS,
                dead_letters=letters,
                max_receive_count=MOST_RECEIVES,
            )
        self.sqs = Sqs(*self.queues.values(), *(queue.dead_letters for queue in self.queues.values()))
        urls = {kind: queue.url for kind, queue in self.queues.items()}
        self.settings = replace(SETTINGS, unknown_policies=policies, queue_urls=urls)
        self.kiva = kiva
        self.telemetry = Silent()
        self.step = lambda what: None
        self.ends = 0.0
        kiva.takes_token = lambda token: True
        kiva.before = lambda: self.step("kiva")
        kiva.after = lambda: self.step("kiva done")

    def environment(self):
        return Environment(self)

    def proven(self, kind):
        """What the ledger holds as proofs of calls of a kind."""
        keys = (item["pk"]["S"] for item in self.dynamodb.items())
        ids = ("uuid", "archive_id", "upload_id")
        return sorted(
            key.rpartition("#")[2]
            for key in keys
            if key.rpartition("#")[0].endswith(tuple(f"#proof#{kind}#{it}" for it in ids))
        )


class Client:
    """One of AWS's clients in one environment: when that is dead, nothing leaves it any more."""

    def __init__(self, environment, client):
        self._environment, self._client = environment, client
        self.exceptions = getattr(client, "exceptions", None)

    def __getattr__(self, name):
        def call(*positional, **arguments):
            self._environment.pass_step(name)
            answer = getattr(self._client, name)(*positional, **arguments)
            self._environment.pass_step(f"{name} done")
            return answer

        return call


class Environment:
    """One execution environment of any of the functions."""

    def __init__(self, world):
        self.world = world
        self.is_dead = False
        self._steps, self._at, self._what = 0, 0, None
        dynamodb, s3, sqs = (Client(self, each) for each in (world.dynamodb, world.s3, world.sqs))
        clock, sleep = world.clock, world.clock.sleep
        ledger = Ledger(lambda: dynamodb, TABLE, world.settings.ledger_scope, clock=clock, sleep=sleep)
        payloads = Payloads(lambda: s3, BUCKET, world.settings.rules.max_image_bytes)
        client = KivaClient(world.settings, FakeTokens(), tls)
        sending = Sending(lambda: dynamodb, TABLE, world.settings.ledger_scope, clock=clock)
        breaker = Breaker(sending, clock=clock, sleep=sleep)
        catalogues = Catalogues(lambda: dynamodb, TABLE, world.settings.ledger_scope, clock=clock)
        way = relay.Relay(world.settings, ledger, client, payloads, sending, breaker, clock=clock, sleep=sleep)
        self.decisions = Decisions(ledger, clock)
        self.ledger = ledger
        self.housekeeping = Housekeeping(
            *(world.settings, ledger, client, payloads, self.decisions, catalogues, sending),
            *(lambda: sqs, world.telemetry, clock),
        )
        self._consumers = {
            kind: Consumer(
                *(kind, world.settings, ledger, way, payloads, Review(catalogues.current)),
                Queues(lambda: sqs, payloads, queue.url, queue.dead_letters.url, jitter=lambda low, high: high / 2),
                world.telemetry,
            )
            for kind, queue in world.queues.items()
        }

    def pass_step(self, name):
        if self.is_dead:
            raise Died
        self._steps += 1
        if self._steps == self._at:
            note(f"  at {name}")
            try:
                self._what()
            except Died:
                self.is_dead = True
                raise

    def invoke(self, function, at=0, what=None):
        """Run it; `what` happens at the step `at`: something else that goes on, an error, or the environment's end."""
        self._steps, self._at, self._what = 0, at, what
        before = self.world.step, self.world.ends
        self.world.step, self.world.ends = self.pass_step, self.world.clock() + INVOCATION_SECONDS
        try:
            return function()
        finally:
            (self.world.step, self.world.ends), self._at = before, 0

    def remaining(self):
        ends = self.world.ends
        return lambda: ends - self.world.clock()

    def consume(self, kind, records):
        return self._consumers[kind].consume(records, self.remaining())

    def keep_house(self):
        house = self.housekeeping
        house.expire_claims()
        house.requeue()
        house.find_stuck()
        house.prove(self.remaining())
        house.send_again()
        house.forget_settled()
