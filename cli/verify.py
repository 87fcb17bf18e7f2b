"""`relay verify`: the acceptance test of a deployed stack, by whoever has an account to run it in.

It does what producers, people and the clock do, and looks what comes of it. To Kiva it submits nothing; with a draft it
submits one that says what it is. What it makes, it removes, and it leaves others' messages where they are.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cli.dead_letters import take
from cli.relay_api import NoAnswer, Refused
from cli.show import Line
from cli.stacks import KINDS, StackOfStage
from kiva_partner.errors import where
from kiva_partner.ledger import Ledger, Outcome, State
from kiva_partner.messages import Kind, Submission, parse
from kiva_partner.settings import AmountMode, PartnerRules

SECONDS: Final = 120
"""For a message to become a dead letter, an outcome to be told: longer than the longest batching window."""
ROWS: Final = 4
"""Of the ledger's own trial: less than the ten refused ones that ring an alarm."""
UNITS: Final = 8.0
"""Write units for each of them: claimed, and refused. `make bench` counts them; `tests/cli/test_verify.py` holds it."""
TICK: Final = json.dumps({"source": "aws.scheduler", "detail-type": "Scheduled Event"}).encode()
"""What the schedules of the template send."""
MARK: Final = "relay-verify"

Request = tuple[str, str, dict[str, str | int], bytes, int]
"""Method, path, query, body, and the status that it is to be answered with."""

_NOBODYS: Final = f"/submissions/repayment/{MARK}"
_EMPTY: Final = b"{}"
_DECISION: Final = json.dumps({"decision": "abandon", "reason": MARK}).encode()
ROUTES: Final[Mapping[tuple[str, str], Request]] = {
    ("GET", "/openapi.json"): ("GET", "/openapi.json", {}, b"", 200),
    ("GET", "/health"): ("GET", "/health", {}, b"", 200),
    ("GET", "/check"): ("GET", "/check", {}, b"", 200),
    ("GET", "/waiting"): ("GET", "/waiting", {"days": 1}, b"", 200),
    ("GET", "/submissions"): ("GET", "/submissions", {"kind": "repayment", "state": "UNKNOWN", "limit": 1}, b"", 200),
    ("GET", "/loans"): ("GET", "/loans", {"limit": 1}, b"", 200),
    ("GET", "/config/{name}"): ("GET", "/config/themes", {}, b"", 200),
    ("GET", "/submissions/{kind}/{reference}"): ("GET", _NOBODYS, {}, b"", 404),
    ("POST", "/submissions/{kind}/{reference}/decision"): ("POST", f"{_NOBODYS}/decision", {}, _DECISION, 404),
    ("POST", "/waiting/{kind}/{reference}/done"): ("POST", f"/waiting/no-kind/{MARK}/done", {}, b"", 400),
    ("POST", "/pause"): ("POST", "/pause", {}, _EMPTY, 400),
    ("POST", "/resume"): ("POST", "/resume", {}, _EMPTY, 400),
    ("POST", "/loan-drafts"): ("POST", "/loan-drafts", {}, _EMPTY, 400),
    ("POST", "/journal-updates"): ("POST", "/journal-updates", {}, _EMPTY, 400),
    ("POST", "/repayments"): ("POST", "/repayments", {}, _EMPTY, 400),
}
"""Each route of the API, called so that it changes nothing."""

NOT_EMBEDDED: Final = {
    "credentials policy": "the embedded AWS has no policies on secrets",
    "key policy": "the embedded AWS has no policies of keys",
    "queues over TLS": "the embedded AWS speaks plain HTTP",
    "units": "the embedded AWS counts a transaction's units once, and DynamoDB counts them twice",
}
"""What cannot be seen in the stack on this machine, and why."""


class Unexpected(Exception):
    """It came otherwise; the message says what came."""


@dataclass
class Verification:
    """A run of it: what it has made by now, and how to remove it."""

    stack: StackOfStage
    seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    id: str = field(default_factory=lambda: f"{MARK}-{uuid.uuid4().hex[:12]}")
    made: ExitStack = field(default_factory=ExitStack)

    def lines(self, *, draft: bool) -> Iterator[Line]:
        """Try everything, one after the other; what fails does not keep the rest from being tried."""
        tried: list[tuple[str, Callable[[], str]]] = [(f"{it[0]} {it[1]}", self._route(it)) for it in ROUTES]
        tried += [
            ("unsigned request", self._unsigned),
            *((f"invalid {kind.replace('_', ' ')}", self._invalid(kind)) for kind in KINDS),
            ("token by check", self._token),
            ("housekeeping", self._housekeeping),
            ("digest", self._digest),  # before the rows below would stand in it
            ("outcome event", self._outcome),
            ("units", self._units),
            ("alarms", self._alarms),
            ("credentials policy", self._credentials_policy),
            ("key policy", self._key_policy),
            ("queues over TLS", self._in_the_clear),
            ("logs", self._logs),
        ]
        if draft:
            tried.append(("loan draft", self._draft))
        with self.made:
            for name, do in tried:
                yield self._line(name, do)

    def _line(self, name: str, do: Callable[[], str]) -> Line:
        try:
            return Line(name, "ok", do())
        except (Unexpected, Refused, NoAnswer) as error:
            detail = str(error)
        except ClientError as error:  # by its code: a text may repeat what it is about
            detail = f"AWS says {error.response['Error']['Code']} to {error.operation_name}"
        except BotoCoreError as error:
            detail = f"{type(error).__name__} on the way to AWS"
        except Exception as error:  # noqa: BLE001 the others are tried all the same
            detail = f"unexpected {where(error)}"
        if self.stack.endpoint and name in NOT_EMBEDDED:
            return Line(name, "unseen", NOT_EMBEDDED[name])
        return Line(name, "bad", detail)

    # --- the API

    def _route(self, route: tuple[str, str]) -> Callable[[], str]:
        method, path, query, body, expected = ROUTES[route]

        def call() -> str:
            api = self.stack.api
            parts = tuple(path.strip("/").split("/"))
            try:
                status = api.post(*parts, body=body).status if method == "POST" else (api.get(*parts, **query) and 200)
            except Refused as error:
                if error.status != expected:
                    raise
                status = error.status
            if status != expected:
                raise Unexpected(f"HTTP {status} and not {expected}")
            return f"HTTP {status}"

        return call

    def _unsigned(self) -> str:
        answer = requests.get(f"{self.stack.api.url}/waiting", timeout=30, allow_redirects=False)
        if answer.status_code != 403:  # noqa: PLR2004 API Gateway's word for it
            raise Unexpected(f"it is answered HTTP {answer.status_code}, and must be refused with 403")
        return "refused with HTTP 403"

    # --- dead letters

    def _invalid(self, kind: str) -> Callable[[], str]:
        def send() -> str:
            queue, body = self.stack.output(f"{KINDS[kind]}QueueUrl"), json.dumps({"relay_verify": self.id})
            sent = self.stack.client("sqs").send_message(QueueUrl=queue, MessageBody=body)["MessageId"]
            reason = self._until(lambda: take(self.stack, kind, sent), "it is no dead letter")
            return f"a dead letter, because {reason}"

        return send

    # --- the token, and the clock

    def _token(self) -> str:
        checks = self.stack.api.get("check")["checks"]
        wrong = [f"{it['name']}: {it['detail']}" for it in checks if not it["ok"]]
        if wrong:
            raise Unexpected("; ".join(wrong))
        return f"a new one for partner {self.stack.output('KivaPartnerId')}, with every scope"

    def _invoke(self, function: str) -> dict[str, Any]:
        answer = self.stack.client("lambda").invoke(FunctionName=self.stack.output(function), Payload=TICK)
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise Unexpected(f"it failed with {result.get('errorType')}; its log says where")
        return result

    def _housekeeping(self) -> str:
        done = self._invoke("HousekeepingFunctionName")
        if done["token"] not in ("renewed", "kept"):
            raise Unexpected(f"the token: {done['token']}")
        return ", ".join(f"{name}: {it}" for name, it in done.items())

    def _digest(self) -> str:
        text = self._invoke("OutcomesFunctionName")["digest"]
        return " ".join(text.split()) or "nothing waits, so none is sent"

    # --- the ledger, and outcomes

    @cached_property
    def _listener(self) -> str:
        """The queue that hears the events of this run; made on first use, and returned when it hears."""
        sqs, events = self.stack.client("sqs"), self.stack.client("events")
        name, bus = f"{self.stack.name}-{self.id}", self.stack.output("EventBusName")
        url: str = sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": "600"})["QueueUrl"]
        self.made.callback(sqs.delete_queue, QueueUrl=url)
        queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        pattern = {"source": ["kiva-relay"], "detail": {"loan_id": [{"prefix": self.id}]}}
        rule = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))["RuleArn"]
        self.made.callback(events.delete_rule, Name=name, EventBusName=bus)
        send = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [send]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue}])
        self.made.callback(events.remove_targets, Rule=name, EventBusName=bus, Ids=["queue"])
        probe = {
            "Source": "kiva-relay",
            "DetailType": MARK,
            "EventBusName": bus,
            "Detail": json.dumps({"loan_id": self.id}),
        }

        def hears() -> bool:
            events.put_events(Entries=[probe])
            return bool(self._heard(url))

        # A new rule takes a while to be effective (EventBridge User Guide, "Creating rules").
        self._until(hears, "a rule of its own hears nothing on the bus")
        return url

    def _heard(self, url: str) -> list[Mapping[str, Any]]:
        """The details of the events that have come since."""
        received = self.stack.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        return [json.loads(message["Body"])["detail"] for message in received.get("Messages", [])]

    @cached_property
    def _written(self) -> tuple[set[str], float]:
        """The loans of rows that were claimed and refused, and the write units of each; 0 where AWS tells none.

        They are repayments of loans that nobody has, and none of them goes near Kiva.
        """
        units = _Units(self.stack.client("dynamodb"))
        table = self.stack.output("LedgerTableName")
        scope = f"{self.stack.output('KivaEnvironment')}#{self.stack.output('KivaPartnerId')}"
        ledger = Ledger(lambda: units.client, table, scope)
        rows = trial(self.id)
        for each in rows:
            key = {"pk": {"S": f"{scope}#submission#{each.kind}#{each.reference}"}}
            self.made.callback(self.stack.client("dynamodb").delete_item, TableName=table, Key=key)
        ledger.claim(rows, self.id, time.time() + 60, {each.reference: self.id for each in rows})
        refused = Outcome(State.REJECTED, f"made by {MARK}, and never sent", call_id=self.id)
        written = ledger.settle([(each, refused) for each in rows], self.id)
        if not all(outcome and outcome.state is State.REJECTED for outcome in written):
            raise Unexpected("the ledger does not take what it is told")
        return {each.loan_id for each in rows}, units.written / ROWS

    def _outcome(self) -> str:
        url = self._listener
        missing, _ = self._written
        heard: set[str] = set()

        def listen() -> bool:
            heard.update(it["loan_id"] for it in self._heard(url) if it.get("state") == State.REJECTED)
            return heard >= missing

        self._until(listen, "no event came of what has settled")
        return f"{ROWS} rows settled, {ROWS} events came by a rule of its own"

    def _units(self) -> str:
        _, units = self._written
        if not units:
            raise Unexpected("DynamoDB does not tell what it consumed")
        if not 0.9 * UNITS <= units <= 1.1 * UNITS:
            raise Unexpected(f"{units:g} write units for a row, and {UNITS:g} are expected")
        return f"{units:g} write units for a row that is claimed and settled"

    # --- what watches

    def _alarms(self) -> str:
        found = list(self.stack.resources("AWS::CloudWatch::Alarm").values())
        pages = self.stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNames=found)
        states = {it["AlarmName"]: it["StateValue"] for page in pages for it in page["MetricAlarms"]}
        ringing = sorted(name for name, state in states.items() if state == "ALARM")
        if ringing:
            raise Unexpected(f"these ring: {', '.join(ringing)}")
        if len(states) != len(found):
            raise Unexpected(f"the stack has {len(found)} alarms, and {len(states)} are there")
        silent = sum(state == "INSUFFICIENT_DATA" for state in states.values())
        return f"{len(states)}, and none rings; {silent} have no data yet"

    def _logs(self) -> str:
        groups = self.stack.resources("AWS::Logs::LogGroup").values()
        logs = self.stack.client("logs")
        plain = [
            name
            for name in groups
            for it in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            if it["logGroupName"] == name and not (it.get("kmsKeyId") and it.get("retentionInDays"))
        ]
        if plain:
            raise Unexpected(f"without key or retention: {', '.join(plain)}")
        return f"{len(groups)} groups, each with the stack's key and a retention"

    # --- what must be refused

    def _credentials_policy(self) -> str:
        secret = self.stack.output("CredentialsSecretArn")
        self._refused(lambda: self.stack.client("secretsmanager").get_secret_value(SecretId=secret))
        return "you are not shown the credentials"

    def _key_policy(self) -> str:
        key = self.stack.output("StackKeyArn")
        self._refused(lambda: self.stack.client("kms").encrypt(KeyId=key, Plaintext=b"relay verify"))
        return "you cannot use the key but through its services"

    def _in_the_clear(self) -> str:
        queue = self.stack.output("RepaymentsQueueUrl")
        sqs = self.stack.session.client(
            "sqs",
            use_ssl=False,
            endpoint_url=self.stack.endpoint,
            config=Config(proxies={} if self.stack.endpoint else None),
        )
        self._refused(
            lambda: sqs.get_queue_attributes(QueueUrl=queue.replace("https:", "http:"), AttributeNames=["All"])
        )
        return "a request in the clear is refused"

    def _refused(self, ask: Callable[[], object]) -> None:
        """See that AWS does not let the operator do it. Raises Unexpected."""
        try:
            ask()
        except ClientError as error:
            if "AccessDenied" not in error.response["Error"]["Code"]:
                raise
        else:
            raise Unexpected("it is allowed, and must not be")

    # --- Kiva

    def _draft(self) -> str:
        body = json.dumps(_draft_of(self.id, self.stack.api)).encode()
        answer = self.stack.api.post("loan-drafts", body=body, Prefer="wait").body
        if answer["state"] != State.ACCEPTED:
            raise Unexpected(f"it is {answer['state']}: {answer.get('reason') or answer['next_step']}")
        return f"Kiva has it as {answer['kiva']['loan_draft_uuid']}: delete it in PA2 > Loans > Drafts"

    def _until[T](self, look: Callable[[], T], otherwise: str) -> T:
        deadline = self.clock() + self.seconds
        while not (found := look()):
            if self.clock() > deadline:
                raise Unexpected(f"{otherwise} after {self.seconds:g} s")
            self.sleep(1)
        return found


class _Units:
    """A client of DynamoDB that adds up the write units that its requests have consumed."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.written = 0.0
        client.meta.events.register("provide-client-params.dynamodb", self._ask)
        client.meta.events.register("after-call.dynamodb", self._add)

    def _ask(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if "ReturnConsumedCapacity" in model.input_shape.members:
            params["ReturnConsumedCapacity"] = "TOTAL"

    def _add(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity") or []
        if model.name != "BatchGetItem":
            every = consumed if isinstance(consumed, list) else [consumed]
            self.written += sum(it.get("WriteCapacityUnits", it.get("CapacityUnits", 0)) for it in every)


def trial(of: str) -> tuple[Submission, ...]:
    """Submissions of loans that there are not; their ids begin with `of`."""
    rows = [{"loan_id": f"{of}-{number}", "client_id": MARK, "amount": 1} for number in range(ROWS)]
    rules = PartnerRules(needs_client_id=True, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=0)
    return parse(Kind.REPAYMENT, json.dumps({"reference": MARK, "repayments": rows}), rules).submissions


def _draft_of(loan: str, api: Any) -> dict[str, Any]:
    """A draft that says what it is, of what Kiva's lists allow."""
    lists = {name: api.get("config", name)[name] for name in ("activities", "themes", "locales", "locations")}
    disbursed = datetime.now(UTC).date() + timedelta(days=14)
    return {
        "reference": loan,
        "activity_id": lists["activities"][0]["activity_id"],
        "theme_type_id": lists["themes"][0]["theme_type_id"],
        "description_language_id": lists["locales"][0]["language_id"],
        "location": lists["locations"][0]["full_name"],
        "currency": lists["locales"][0]["currency"],
        "loanuse": "to test the connection. Please delete this draft.",
        "description": "This is no loan: it tests the connection between a partner's relay and Kiva. Please delete it.",
        "client_waiver_signed": True,
        "disburse_time": disbursed.isoformat(),
        "entreps": [
            {
                "client_id": loan,
                "loan_id": loan,
                "first_name": "Test",
                "last_name": "Please Delete",
                "gender": "female",
                "amount": 100,
            }
        ],
        "schedule": [{"date": (disbursed + timedelta(days=30)).isoformat(), "principal": 100, "interest": 0}],
    }
