"""What the ledger's stream tells others: which changes are events, what they say, and that none is lost or held up."""

import json
from copy import deepcopy, replace
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft4Validator, Draft202012Validator

from kiva_partner import formats
from kiva_partner.errors import Violation
from kiva_partner.ledger import Ledger, Outcome, State
from kiva_partner.messages import Kind, parse
from kiva_partner.outcomes import MAX_DETAIL_BYTES, NotSent, Outcomes, Settled, settled
from kiva_partner.runs import Runs
from kiva_partner.sending import Sending
from kiva_partner.telemetry import Telemetry
from stream import Stream, passes, record

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
SCHEMA = SCHEMAS / "submission_settled.schema.json"
EVENTS = {"submission_settled": Settled, "submission_not_sent": NotSent}
CANARIES = ("Canary-Akinyi", "Canary-Odhiambo", "canary story", "canary reason", "user/canary")
BY_A_PERSON = {
    "decision": "accepted",
    "reason": "canary reason",
    "by": "arn:aws:iam::1:user/canary",
    "at": "2026-11-25",
}
UPLOAD = {"upload_id": "90001"}
PROBLEM = {"severity": "error", "code": "no_loan", "details": "••• is not known"}


class Bus:
    """Takes events, and refuses those that it is told to; moto's refuses none."""

    def __init__(self):
        self.taken = []
        self.calls = []
        self.refused = set()
        self.down = False

    def put_events(self, Entries):  # noqa: N803 it is boto3's
        self.calls.append(len(Entries))
        if self.down:
            raise ConnectionError("canary: the endpoint is gone")
        answers = []
        for entry in Entries:
            if json.loads(entry["Detail"]).get("reference", entry["DetailType"]) in self.refused:
                answers.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "canary"})
            else:
                self.taken.append(entry)
                answers.append({"EventId": "e"})
        return {"FailedEntryCount": len(self.refused), "Entries": answers}

    @property
    def details(self):
        return [json.loads(entry["Detail"]) for entry in self.taken]


class DeadLetters:
    """Takes letters, unless it is down."""

    def __init__(self):
        self.letters = []
        self.down = False

    def send_message(self, QueueUrl, MessageBody):  # noqa: N803 it is boto3's
        if self.down:
            raise ConnectionError
        self.letters.append(json.loads(MessageBody))


class Mail:
    """Takes mails, unless it is down."""

    def __init__(self):
        self.sent = []
        self.down = False

    def publish(self, **mail):
        if self.down:
            raise ConnectionError("canary: no such topic")
        self.sent.append(mail)


@pytest.fixture
def bus():
    return Bus()


@pytest.fixture
def mail():
    return Mail()


@pytest.fixture
def mailing(outcomes, settings):
    """The outcomes of a stack whose coordinator wants the digest by mail."""
    return msgspec.structs.replace(outcomes, settings=msgspec.structs.replace(settings, digest_topic="arn:topic"))


@pytest.fixture
def dead_letters():
    return DeadLetters()


@pytest.fixture
def outcomes(settings, ledger, sending, runs, bus, dead_letters, mail, clock):
    return Outcomes(
        settings, ledger, sending, runs, lambda: bus, lambda: dead_letters, lambda: mail, Telemetry({}), clock
    )


@pytest.fixture
def sending(table, clock):
    return Sending(lambda: table, "ledger", "sandbox#9001", clock=clock)


@pytest.fixture
def runs(table, clock):
    return Runs(lambda: table, "ledger", "sandbox#9001", clock=clock)


@pytest.fixture
def ledger(table, clock):
    return Ledger(lambda: table, "ledger", "sandbox#9001", clock=clock, sleep=clock.sleep)


@pytest.fixture
def stream(table, monkeypatch):
    return Stream(monkeypatch)


@pytest.fixture
def deliver(stream, outcomes):
    def function(event):
        return {"batchItemFailures": [{"itemIdentifier": each} for each in outcomes.publish(event["Records"])]}

    return lambda: stream.deliver(function)


def repayments(rules, *loans, amount=100.5):
    rows = [{"loan_id": loan, "client_id": "C-1", "amount": amount} for loan in loans]
    return parse(Kind.REPAYMENT, json.dumps({"period": "2026-10", "repayments": rows}), rules).submissions


def draft(rules, loan="L-1", **fields):
    entrep = {"client_id": "C-1", "loan_id": loan, "first_name": "Canary-Akinyi", "last_name": "Canary-Odhiambo"}
    body = {"currency": "KES", "description": "canary story", "entreps": [{**entrep, "gender": "female", "amount": 10}]}
    (submission,) = parse(Kind.LOAN_DRAFT, json.dumps(body | fields), rules).submissions
    return replace(submission, warnings=(Violation("$.location", "is not among Kiva's"),))


@pytest.fixture
def one(rules):
    return draft(rules)


@pytest.fixture
def claim(ledger, clock):
    def run(*submissions, owner="me", call_id="call-1"):
        calls = {each.reference: call_id for each in submissions}
        ledger.claim(submissions, owner, clock() + 300, calls)

    return run


@pytest.fixture
def settle(ledger, claim):
    def run(*submissions, state=State.ACCEPTED, **fields):
        claim(*submissions)
        ledger.settle([(each, Outcome(state, **fields)) for each in submissions], "me")

    return run


# --- which changes are events ---------------------------------------------------------------------------------------


def test_what_is_queued_claimed_or_comes_again_is_no_event(one, ledger, claim, deliver, bus):
    ledger.enqueue([one])
    claim(one)
    ledger.settle([(one, Outcome(State.RETRY, "Kiva answered 429"))], "me")
    claim(one)
    assert deliver() == 0
    assert bus.taken == []


@pytest.mark.parametrize("state", [State.ACCEPTED, State.REJECTED, State.UNKNOWN])
def test_what_a_sender_settles_is_one_event(one, settle, deliver, bus, state):
    settle(one, state=state, reason="a reason", kiva={"loan_draft_uuid": "u-1"})
    deliver()
    assert deliver() == 0
    (told,) = bus.details
    assert told.pop("at").startswith("2026-")
    assert told == {
        "version": "1",
        "id": told["id"],
        "environment": "sandbox",
        "partner_id": "9001",
        "kind": "loan_draft",
        "reference": "L-1",
        "loan_id": "L-1",
        "state": state,
        "final": state is not State.UNKNOWN,
        "previous_state": "SENDING",
        "kiva": {"loan_draft_uuid": "u-1"},
        "reason": "a reason",
        "warnings": ["$.location: is not among Kiva's"],
        "attempts": 1,
        "call_id": "call-1",
    }


def test_an_event_is_addressed_to_the_bus_and_says_when_the_ledger_was_told(one, settle, outcomes, stream, bus):
    settle(one)
    outcomes.publish([each for each in stream.records if passes(each)])
    (entry,) = bus.taken
    assert (entry["Source"], entry["DetailType"]) == ("kiva-relay", "SubmissionSettled")
    assert entry["EventBusName"] == outcomes.settings.event_bus
    assert entry["Time"].isoformat(timespec="microseconds") == bus.details[0]["at"]


def test_a_claim_that_ran_out_is_an_event(one, ledger, claim, clock, deliver, bus):
    claim(one)
    clock.advance(301)
    ledger.expire_claim(ledger.read(one.kind, one.reference))
    deliver()
    assert [(it["previous_state"], it["state"]) for it in bus.details] == [("SENDING", "UNKNOWN")]


def test_what_is_stuck_is_an_event_that_is_not_the_last_one(one, ledger, settle, deliver, bus):
    ledger.enqueue([one])
    ledger.mark_stuck([(ledger.read(one.kind, one.reference), "its message is a dead letter")])
    ledger.enqueue([one])
    settle(one, state=State.ACCEPTED)
    deliver()
    first, second = bus.details
    assert (first["state"], first["final"], first["reason"]) == ("STUCK", False, "its message is a dead letter")
    assert (first["previous_state"], first["attempts"], first["call_id"]) == ("QUEUED", 0, "")
    assert (second["state"], second["final"]) == ("ACCEPTED", True)


def test_that_it_is_kept_is_no_second_event(one, ledger, settle, deliver, bus):
    settle(one, state=State.UNKNOWN)
    ledger.keep([(one, "unknown/loan_draft/L-1/abc")])
    deliver()
    assert len(bus.taken) == 1


@pytest.mark.parametrize(
    ("decision", "state"), [("accepted", State.ACCEPTED), ("abandon", State.ABANDONED)], ids=["accepted", "abandon"]
)
def test_a_decision_is_an_event_that_says_which_and_neither_why_nor_by_whom(
    one, ledger, settle, deliver, bus, decision, state
):
    settle(one, state=State.UNKNOWN)
    row = ledger.read(one.kind, one.reference)
    ledger.resolve([(row, Outcome(state, "somebody found it"))], decision=BY_A_PERSON | {"decision": decision})
    deliver()
    told = bus.details[1]
    assert (told["previous_state"], told["state"], told["decision"]) == ("UNKNOWN", state, decision)
    assert told["call_id"] == "call-1"
    assert not [canary for canary in CANARIES if canary in bus.taken[1]["Detail"]]


def test_what_is_sent_again_is_an_event_when_it_has_settled_and_no_decision_of_that_moment(
    one, ledger, settle, deliver, bus
):
    settle(one, state=State.UNKNOWN)
    row = ledger.read(one.kind, one.reference)
    ledger.resolve([(row, Outcome(State.RETRY))], decision=BY_A_PERSON | {"decision": "send-again"})
    ledger.requeued(ledger.read(one.kind, one.reference))
    settle(one, state=State.ACCEPTED)
    deliver()
    assert [it["state"] for it in bus.details] == ["UNKNOWN", "ACCEPTED"]
    assert "decision" not in bus.details[1]
    assert bus.details[1]["attempts"] == 2


def test_what_is_proved_or_answered_late_is_an_event(rules, ledger, settle, deliver, bus):
    proved, late = draft(rules, "L-1"), draft(rules, "L-2")
    settle(proved, late, state=State.UNKNOWN)
    ledger.resolve(
        [(ledger.read(proved.kind, "L-1"), Outcome(State.ACCEPTED, "found among Kiva's loans", {"kiva_id": "7"}))]
    )
    ledger.settle([(late, Outcome(State.ACCEPTED))], "me")
    deliver()
    ends = [(it["reference"], it["previous_state"], it["state"]) for it in bus.details[2:]]
    assert ends == [("L-1", "UNKNOWN", "ACCEPTED"), ("L-2", "UNKNOWN", "ACCEPTED")]


def test_other_content_under_a_refused_reference_is_an_event_of_its_own(rules, settle, deliver, bus):
    settle(draft(rules), state=State.REJECTED)
    settle(draft(rules, description="another"), state=State.REJECTED)
    deliver()
    assert [it["attempts"] for it in bus.details] == [1, 2]
    assert len({it["id"] for it in bus.details}) == 2


def test_a_row_of_an_upload_tells_kivas_finding(rules, settle, deliver, bus):
    settle(*repayments(rules, "L-1"), state=State.REJECTED, kiva=UPLOAD, problems=(PROBLEM,))
    deliver()
    assert (bus.details[0]["kiva"], bus.details[0]["problems"]) == (UPLOAD, [PROBLEM])


def test_lease_receipts_and_what_is_forgotten_wake_nobody(one, rules, ledger, settle, stream, table, deliver, bus):
    message = parse(
        Kind.REPAYMENT,
        json.dumps({"period": "2026-10", "repayments": [{"loan_id": "L-1", "client_id": "C", "amount": 1}]}),
        rules,
    )
    ledger.write_receipt(message)
    table.put_item(TableName="ledger", Item={"pk": {"S": "sandbox#9001#lease#token"}, "owner": {"S": "me"}})
    settle(one)
    deliver()
    table.delete_item(TableName="ledger", Key={"pk": {"S": "sandbox#9001#submission#loan_draft#L-1"}})
    assert deliver() == 0
    assert stream.records[-1]["eventName"] == "REMOVE"
    assert len(bus.taken) == 1


def test_without_the_filter_it_is_the_same(one, ledger, settle, stream, outcomes, bus, dead_letters):
    settle(one, state=State.UNKNOWN)
    ledger.keep([(one, "unknown/loan_draft/L-1/abc")])
    assert len(stream.records) == 3
    assert outcomes.publish(stream.records) == []
    assert (len(bus.taken), dead_letters.letters) == (1, [])


# --- none is lost, doubled or held up -------------------------------------------------------------------------------


@pytest.fixture
def batch(rules, settle, stream):
    settle(*repayments(rules, *(f"L-{number}" for number in range(25))), kiva=UPLOAD)
    return [each for each in stream.records if passes(each)]


def place(batch, loan):
    """The sequence number of the record about a loan, as Lambda wants the first that failed."""
    (found,) = (
        each["dynamodb"] for each in batch if each["dynamodb"]["NewImage"]["reference"]["S"] == f"2026-10:{loan}:100.50"
    )
    return found["SequenceNumber"]


def test_ten_events_are_one_call(batch, outcomes, bus):
    assert outcomes.publish(batch) == []
    assert bus.calls == [10, 10, 5]


def test_from_the_first_that_is_refused_on_the_batch_comes_again(batch, outcomes, bus):
    bus.refused = {"2026-10:L-13:100.50", "2026-10:L-17:100.50"}
    assert outcomes.publish(batch) == [place(batch, "L-13")]
    assert bus.calls == [10, 10]


def test_while_the_bus_is_gone_all_comes_again_and_then_each_is_told_once(batch, outcomes, deliver, bus, capsys):
    bus.down = True
    assert deliver() == 10
    bus.down = False
    deliver()
    assert len({it["id"] for it in bus.details}) == len(bus.taken) == 25
    assert "canary" not in capsys.readouterr().out


def test_what_was_refused_for_a_while_is_told_in_the_end_and_a_repetition_has_the_same_id(batch, deliver, bus):
    bus.refused = {"2026-10:L-13:100.50"}
    deliver()
    bus.refused = set()
    deliver()
    assert {it["reference"] for it in bus.details} == {f"2026-10:L-{number}:100.50" for number in range(25)}
    assert len({it["id"] for it in bus.details}) == 25


def test_a_record_that_comes_twice_has_the_same_id(batch, outcomes, bus):
    outcomes.publish(batch)
    outcomes.publish(batch)
    assert bus.details[:25] == bus.details[25:]


def no_row(change):
    change["NewImage"] = {"state": {"S": "ACCEPTED"}}


def unknown_kind(change):
    change["NewImage"]["kind"] = {"S": "canary"}


def another_type(change):
    change["NewImage"]["attempts"] = {"NULL": True}


def no_scope(change):
    change["NewImage"]["loan_id"] = {"S": "canary"}


def half_a_problem(change):
    change["NewImage"]["outcome"]["M"]["problems"] = {"L": [{"M": {"code": {"S": "canary"}}}]}


def two_types(change):
    change["NewImage"]["reference"] = {"S": "canary", "N": "1"}


def no_time(change):
    change["NewImage"]["updated_at"] = {"S": "canary"}


def no_images(change):
    change["NewImage"] = "canary"


def broken_old_image(change):
    change["OldImage"] = {"state": {"S": "canary"}}


def too_large(change):
    change["NewImage"]["warnings"] = {"L": [{"S": "canary" * MAX_DETAIL_BYTES}]}


def of_a_newer_version(change):
    change["NewImage"]["v"] = {"N": str(formats.VERSION + 1)}


@pytest.mark.parametrize(
    "spoil",
    [
        no_row,
        unknown_kind,
        another_type,
        no_scope,
        half_a_problem,
        two_types,
        no_time,
        no_images,
        broken_old_image,
        too_large,
        of_a_newer_version,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_what_cannot_be_read_is_laid_aside_and_holds_up_nobody(batch, outcomes, bus, dead_letters, capsys, spoil):
    broken = deepcopy(batch)
    spoil(broken[3]["dynamodb"])
    assert outcomes.publish(broken) == []
    assert len(bus.taken) == 24
    (letter,) = dead_letters.letters
    assert letter["eventID"] == broken[3]["eventID"]
    assert letter["Keys"] == broken[3]["dynamodb"]["Keys"]
    assert "canary" not in json.dumps(letter) + capsys.readouterr().out


@pytest.mark.parametrize("nothing", [{}, {"eventID": "x"}, {"dynamodb": {}}, {"dynamodb": {"NewImage": {}}}], ids=repr)
def test_a_record_of_another_shape_holds_up_nobody_either(batch, outcomes, bus, nothing):
    assert outcomes.publish([nothing, *batch]) == []
    assert len(bus.taken) == 25


def test_what_cannot_even_be_laid_aside_comes_again(batch, outcomes, bus, dead_letters):
    no_row(batch[3]["dynamodb"])
    dead_letters.down = True
    assert outcomes.publish(batch) == [batch[3]["dynamodb"]["SequenceNumber"]]
    dead_letters.down = False
    assert outcomes.publish(batch[3:]) == []
    assert len(dead_letters.letters) == 1


def test_what_comes_after_the_first_that_failed_is_not_laid_aside_twice(batch, outcomes, bus, dead_letters):
    no_row(batch[3]["dynamodb"])
    bus.down = True
    assert outcomes.publish(batch) == [batch[0]["dynamodb"]["SequenceNumber"]]
    assert dead_letters.letters == []


# --- the digest -----------------------------------------------------------------------------------------------------


def test_a_digest_names_the_first_twenty_uploads_and_counts_the_rest(rules, settle, outcomes, bus):
    for number in range(23):
        settle(*repayments(rules, f"L-{number}"), kiva={"upload_id": str(90000 + number)})
    text = outcomes.publish_digest()
    assert text.startswith("23 uploads to finalise in PA2 > Repayments: 9")
    assert text.endswith(", and 3 more")
    assert text.count("900") == 20
    assert [(it["waiting"]["uploads"], it["text"]) for it in bus.details] == [(23, text)]


def test_an_archive_that_kiva_gave_no_url_for_is_counted_all_the_same(rules, settle, outcomes):
    journal = {"internal_loan_id": "L-1", "internal_client_id": "C-1", "subject": "a", "body": "b"}
    submissions = parse(Kind.JOURNAL_UPDATE, json.dumps({"journals": [journal]}), rules).submissions
    settle(*submissions, kiva={"archive_id": "48001"})
    assert outcomes.publish_digest() == "1 archive to confirm"


def test_what_has_waited_for_longer_than_sixty_days_is_in_no_digest(one, settle, outcomes, clock, bus):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    clock.advance(62 * 86400)
    assert outcomes.publish_digest() == ""
    assert bus.taken == []


def test_a_digest_says_what_is_paused_and_names_nobody(settle, outcomes, sending, bus):
    sending.pause([Kind.REPAYMENT], "arn:ann", "Akinyi was paid twice")
    assert outcomes.publish_digest() == "repayments are paused since 2026-09-21 14:13 UTC"
    assert "ann" not in str(bus.__dict__)


def test_a_digest_is_written_down_with_what_waits_also_where_nothing_does(one, settle, outcomes, runs):
    outcomes.publish_digest()
    assert set(runs.last("digest").result.values()) == {0}
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    outcomes.publish_digest()
    assert runs.last("digest").result["drafts"] == 1


def test_a_digest_that_the_bus_refuses_is_a_failed_run_which_lambda_repeats(one, settle, outcomes, bus, runs, capsys):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    bus.refused = {"SubmissionDigest"}
    with pytest.raises(ConnectionError, match="the digest's event was not taken"):
        outcomes.publish_digest()
    assert runs.last("digest") is None
    bus.refused = set()
    outcomes.publish_digest()
    assert len(bus.taken) == 1
    assert runs.last("digest").result["drafts"] == 1


def test_a_digest_has_a_line_for_each_thing_and_each_link(rules, one, settle, outcomes, bus):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    journal = {"internal_loan_id": "L-9", "internal_client_id": "C-1", "subject": "a", "body": "b"}
    submissions = parse(Kind.JOURNAL_UPDATE, json.dumps({"journals": [journal]}), rules).submissions
    settle(*submissions, kiva={"archive_id": "48001", "confirm_url": "https://kiva.test/confirm/48001"})
    assert outcomes.publish_digest().splitlines() == [
        "1 draft to publish in PA2 > Loans > Drafts",
        "1 archive to confirm:",
        "https://kiva.test/confirm/48001",
    ]


def test_nobody_is_mailed_where_nobody_wants_it_or_nothing_waits(one, settle, outcomes, mailing, mail):
    mailing.publish_digest()
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    outcomes.publish_digest()
    assert mail.sent == []


def test_a_mail_says_in_its_subject_which_kiva_which_partner_and_how_much(rules, settle, mailing, mail, bus):
    settle(draft(rules, "L-1"), kiva={"loan_draft_uuid": "u-1"})
    mailing.publish_digest()
    settle(draft(rules, "L-2"), kiva={"loan_draft_uuid": "u-2"})
    mailing.publish_digest()
    first, second = mail.sent
    assert first["Subject"] == "Kiva sandbox, partner 9001: 1 thing waits for a person"
    assert second == {
        "TopicArn": "arn:topic",
        "Subject": "Kiva sandbox, partner 9001: 2 things wait for a person",
        "Message": "2 drafts to publish in PA2 > Loans > Drafts",
    }
    assert len(bus.taken) == 2


def test_a_mail_says_that_sending_is_paused_where_nothing_else_waits(sending, mailing, mail):
    sending.pause([Kind.REPAYMENT], "arn:ann", "Akinyi was paid twice")
    mailing.publish_digest()
    assert [each["Subject"] for each in mail.sent] == ["Kiva sandbox, partner 9001: sending is paused"]


def test_a_run_that_is_repeated_mails_and_does_not_tell_the_bus_again(one, settle, mailing, mail, bus, runs):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    mail.down = True
    for _ in range(2):
        with pytest.raises(ConnectionError, match="the digest's mail was not taken"):
            mailing.publish_digest()
    assert (len(bus.taken), mail.sent, runs.last("digest")) == (1, [], None)
    mail.down = False
    mailing.publish_digest()
    assert (len(bus.taken), len(mail.sent)) == (1, 1)
    assert runs.last("digest").result["drafts"] == 1


def test_a_run_that_is_repeated_tells_the_bus_and_does_not_mail_again(one, settle, mailing, mail, bus):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    bus.down = True
    with pytest.raises(ConnectionError, match="the digest's event was not taken"):
        mailing.publish_digest()
    bus.down = False
    mailing.publish_digest()
    assert (len(bus.taken), len(mail.sent)) == (1, 1)


def test_while_neither_is_to_be_reached_both_are_missed_and_neither_is_forgotten(one, settle, mailing, mail, bus):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    bus.down = mail.down = True
    with pytest.raises(ConnectionError, match="the digest's event and mail was not taken"):
        mailing.publish_digest()
    bus.down = mail.down = False
    mailing.publish_digest()
    assert (len(bus.taken), len(mail.sent)) == (1, 1)


def test_what_a_failed_run_has_told_is_told_again_the_next_day(one, settle, mailing, mail, bus, clock, runs):
    settle(one, kiva={"loan_draft_uuid": "u-1"})
    mailing.publish_digest()
    yesterday = runs.last("digest")
    mail.down = True
    clock.advance(86400)
    with pytest.raises(ConnectionError):
        mailing.publish_digest()
    assert runs.last("digest") == yesterday
    mail.down = False
    clock.advance(86400)
    mailing.publish_digest()
    assert (len(bus.taken), len(mail.sent)) == (3, 2)


# --- what they say --------------------------------------------------------------------------------------------------


def schema(event):
    """The schema of an event's `detail`, in words that both 2020-12 and EventBridge's draft 4 know."""
    (_,), parts = msgspec.json.schema_components([event], ref_template="#/definitions/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **parts.pop(event.__name__),
        "title": f"Submission{event.__name__}",
        "definitions": parts,
    }


def test_there_is_a_schema_for_each_event():
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{name}.schema.json" for name in EVENTS}


@pytest.mark.parametrize("name", EVENTS)
def test_the_schema_is_that_of_the_code(name):
    """Should it fail: write what `schema` gives into the file, `json.dumps(…, indent=2, ensure_ascii=False)`."""
    assert json.loads((SCHEMAS / f"{name}.schema.json").read_text()) == schema(EVENTS[name])


@pytest.mark.parametrize("name", EVENTS)
def test_the_schema_is_one_in_both_dialects(name):
    written = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(written)
    Draft4Validator.check_schema(written | {"$schema": "http://json-schema.org/draft-04/schema#"})


@pytest.mark.parametrize("validator", [Draft202012Validator, Draft4Validator])
def test_every_event_is_as_the_schema_says(rules, ledger, settle, deliver, bus, validator, clock):
    settle(draft(rules), state=State.UNKNOWN)
    ledger.resolve([(ledger.read(Kind.LOAN_DRAFT, "L-1"), Outcome(State.ACCEPTED, "x"))], decision=BY_A_PERSON)
    settle(*repayments(rules, "L-2"), state=State.REJECTED, reason="r", kiva=UPLOAD, problems=(PROBLEM,))
    amounts = [repayments(rules, "L-3", amount=amount)[0] for amount in (1, 2, 3)]
    for amount, state in zip(amounts, (State.UNKNOWN, State.ACCEPTED, State.ACCEPTED), strict=True):
        clock.advance(1)
        settle(amount, state=state, kiva=UPLOAD)
    deliver()
    clock.advance(1)
    first, second, _ = [ledger.read(Kind.REPAYMENT, amount.reference) for amount in amounts]
    ledger.resolve([(first, Outcome(State.ACCEPTED, "x", UPLOAD))])
    ledger.note_again([second])
    deliver()
    told = {"submission_settled": [], "submission_not_sent": []}
    for entry, detail in zip(bus.taken, bus.details, strict=True):
        told["submission_settled" if entry["DetailType"] == "SubmissionSettled" else "submission_not_sent"].append(
            detail
        )
    assert [len(details) for details in told.values()] == [7, 1]
    for name, details in told.items():
        written = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        assert [error.message for detail in details for error in validator(written).iter_errors(detail)] == []
        assert {field for detail in details for field in detail} == written["properties"].keys()


def test_an_event_without_a_state_is_not_as_the_schema_says():
    assert not Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid({"version": "1"})


def test_nothing_of_a_borrower_or_of_a_person_is_told(rules, ledger, settle, deliver, bus):
    settle(draft(rules), state=State.UNKNOWN)
    ledger.keep([(draft(rules), "unknown/canary reason")])
    ledger.resolve(
        [(ledger.read(Kind.LOAN_DRAFT, "L-1"), Outcome(State.ABANDONED, "x"))],
        decision=BY_A_PERSON | {"decision": "abandon"},
    )
    deliver()
    told = json.dumps(bus.details)
    assert not [canary for canary in (*CANARIES, "fingerprint", "C-1") if canary in told]


def test_a_change_is_an_event_only_by_its_state_or_outcome(batch, settings):
    change = batch[0]["dynamodb"]
    marked = change["NewImage"] | {"done": {"M": {"by": {"S": "somebody"}}}}
    assert settled(record(change["OldImage"], change["NewImage"]), settings)
    assert settled(record(change["NewImage"], marked), settings) is None
