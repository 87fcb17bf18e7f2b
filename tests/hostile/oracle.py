"""What is right for every body: one verdict, by the queue and by the API, that gives nothing away."""

import base64
import hashlib
import json
import re
from datetime import date

from deployment import ENVIRONMENT, TABLE
from faults.in_process import S3, DynamoDb
from hostile.mutator import MARKER
from kiva_partner import messages
from kiva_partner.api import Intake
from kiva_partner.catalogue import Catalogue
from kiva_partner.characters import in_id
from kiva_partner.errors import InvalidMessage
from kiva_partner.ledger import Ledger
from kiva_partner.messages import Kind, from_text, parse, to_text
from kiva_partner.pa2 import Review
from kiva_partner.payloads import Payloads
from kiva_partner.settings import Settings
from kiva_partner.strict_json import decode, encode
from kiva_sandbox.data import CONFIG

LONGEST_RULE = 200
_LISTS = Catalogue.of(lambda name: {name: CONFIG[name]}, 0.0)
REVIEW = Review(lambda: _LISTS, lambda: date(2026, 11, 25))
MAX_VIOLATIONS = 2 * messages.MAX_ROWS
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f]")

FIELDS = {
    Kind.LOAN_DRAFT: {*messages.LoanDraft.__struct_fields__} - {"reference", "photo"},
    Kind.JOURNAL_UPDATE: {*messages.Journal.__struct_fields__},
    Kind.REPAYMENT: {*messages.Repayment.__struct_fields__} - {"payment_id"},
}
"""What of each may go to Kiva."""


class _Queue:
    """SQS, of which only the last message is kept."""

    def send_message(self, *, QueueUrl, MessageBody, DelaySeconds, MessageAttributes):  # noqa: N803 boto3's names
        self.last = MessageBody


class _Telemetry:
    """What nobody expected ends the run instead of becoming a 503."""

    def refused(self, what, error):
        raise error

    def unexpected(self, what, error):
        raise error


class Oracle:
    """Checks bodies. The ledger behind the API is thrown away from time to time, so that a run has no end to fear."""

    def __init__(self):
        self.settings = Settings.from_environment({**ENVIRONMENT, "QUEUE_URL": "q", "DEAD_LETTER_QUEUE_URL": "d"})
        self._queue = _Queue()
        self._posts = 0
        self._renew()

    def _renew(self):
        dynamodb, s3 = DynamoDb(), S3()
        ledger = Ledger(lambda: dynamodb, TABLE, self.settings.ledger_scope)
        payloads = Payloads(lambda: s3, "payloads", self.settings.rules.max_image_bytes)
        self._intakes = {
            kind: Intake(kind, self.settings, ledger, None, lambda: self._queue, payloads, REVIEW, _Telemetry())
            for kind in Kind
        }

    def by_queue(self, kind, body):
        """True when it is a valid message, False when it is refused. SQS has texts; bytes that are none come halved."""
        text = body.decode("utf-8", "surrogateescape")
        try:
            message = parse(kind, text, self.settings.rules)
        except InvalidMessage as error:
            _check_error(error)
            return False
        _check_message(message)
        _check_findings(REVIEW(message))
        again = parse(kind, encode(decode(text)).decode(), self.settings.rules)
        assert again == message, "what is queued again is another message"
        return True

    def by_api(self, kind, body, *, in_base64):
        """The status. A text that is no Unicode is all that cannot come both ways."""
        self._posts += 1
        if self._posts % 300 == 0:
            self._renew()
        text = base64.b64encode(body).decode() if in_base64 else body.decode("utf-8", "surrogateescape")
        event = {"headers": {"Content-Type": "application/json"}, "body": text, "isBase64Encoded": in_base64}
        answer = self._intakes[kind].post(event, lambda: 290.0)
        result = answer.as_proxy_result()
        assert answer.status in (202, 400, 409, 413), answer.status
        assert json.loads(result["body"]) == answer.body
        result["body"].encode()
        assert not UNPRINTABLE.search("".join(result["headers"].values())), "a header could be split"
        if answer.status != 202:
            assert MARKER not in result["body"], "the problem detail shows a value"
            assert result["headers"]["Content-Type"] == "application/problem+json"
        if answer.status in (400, 413):
            assert all(each["field"] and each["rule"] for each in answer.body["errors"])
        return answer.status


def _check_error(error):
    assert error.violations, "it names no rule"
    assert all(each.path.startswith("$") and each.rule for each in error.violations)
    text = str(error)
    assert MARKER not in text, "the error shows a value"
    assert all(len(str(each)) <= LONGEST_RULE for each in error.violations), "a rule is longer than anybody reads"
    assert len(error.violations) <= MAX_VIOLATIONS
    assert not UNPRINTABLE.search(text), "the error holds what no terminal should get"


def _check_findings(message):
    for finding in (each for submission in message.submissions for each in submission.warnings):
        assert MARKER not in str(finding), "a finding shows a value"
        assert finding.path.startswith("$.")
        assert len(str(finding)) <= LONGEST_RULE


def _check_message(message):
    assert message.submissions
    assert not UNPRINTABLE.search(message.reference)
    assert len({each.reference for each in message.submissions}) == len(message.submissions)
    for each in message.submissions:
        assert not UNPRINTABLE.search(each.reference)
        assert not in_id(each.loan_id), "an id holds what nobody sees"
        sent = encode(each.content)
        assert set(json.loads(sent)) <= FIELDS[each.kind], "Kiva would get a field that the schema does not know"
        assert each.kind is Kind.LOAN_DRAFT or each.fingerprint == hashlib.sha256(sent).hexdigest()
        kept = from_text(to_text(each).decode())
        assert (kept.reference, kept.fingerprint) == (each.reference, each.fingerprint)
        assert encode(kept.content) == sent, "kept and sent again, it is another one"
