"""Twenty-one bugs that others who integrated with Kiva had, in production, in libraries and in Kiva's own samples.

For each of them what we do instead, as Kiva sees it: the functions called as Lambda calls them, the imitation of Kiva
on a port, and between them requests as they arrived.
"""

import base64
import csv
import json
import re
from copy import deepcopy
from decimal import Decimal
from importlib import import_module
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import requests
import time_machine

from cli import missing
from cli.files import read
from deployment import AT_KIVA, ENVIRONMENT
from handlers import BORROWER, Console, Function
from handlers import draft as draft_of_canaries
from handlers import journals as journals_of_canaries
from images import data_uri, png
from kiva_partner import runtime
from kiva_partner.client import CONFIG_NAMES
from kiva_partner.errors import Misconfigured
from kiva_partner.examples import REQUESTS
from kiva_partner.ledger import Ledger
from kiva_partner.messages import Kind
from kiva_partner.settings import Settings
from kiva_sandbox.data import SCOPES, Partner
from template import cloudformation

from .conftest import PARTNER

ALL_BUGS = set(range(1, 22))
PHOTO = data_uri(png(rest=b"pixels of a borrower"))


def bug(number):
    return pytest.mark.bug(number)


def example(kind, name, **changes):
    """An example of our own documentation, its photo inside."""
    message = {**deepcopy(REQUESTS[kind][name]["value"]), **changes}
    if message.pop("photo", None):
        message["image_encoded"] = PHOTO
    return message


def individual(loan="L-1", client="C-1", amount=60000, **changes):
    """A draft of one borrower."""
    message = example(Kind.LOAN_DRAFT, "individual")
    (entrep,) = message["entreps"]
    return {**message, "entreps": [{**entrep, "loan_id": loan, "client_id": client, "amount": amount}], **changes}


def group(**changes):
    return example(Kind.LOAN_DRAFT, "group", **changes)


def report(*rows, period="2026-10"):
    """Repayments of loans of the imitation, each by its number and amount."""
    return {
        "period": period,
        "repayments": [
            {"loan_id": f"L-{70_000 + number}-1", "client_id": f"C-{18_000 + number}", "amount": amount}
            for number, amount in rows
        ],
    }


def do_everything(drafts, updates, reports, console):
    """Every call that we make of Kiva."""
    drafts.batch(individual(), group())
    updates.batch(example(Kind.JOURNAL_UPDATE, "visit"))
    reports.batch(report((1, 100)))
    console("/loans", query="L-70001-1", status="payingBack")
    console("/check")
    for name in CONFIG_NAMES:
        console(f"/config/{name}")
    import_module("housekeeping.app").handler({}, drafts.context)


@pytest.fixture
def everything(drafts, updates, reports, console):
    return lambda: do_everything(drafts, updates, reports, console)


@pytest.fixture
def state_of(console):
    """What the ledger says of a submission, as people read it."""

    def state(kind, reference):
        status, shown = console(f"/submissions/{kind}/{quote(reference)}")
        return shown["state"] if status == 200 else None

    return state


# --- 1 to 4: repayments -----------------------------------------------------------------------------------------------


class ByHandler:
    """The relay's API as `relay missing` asks it, without a gateway."""

    def __init__(self, console):
        self._console = console

    def get(self, *path, **query):
        asked = {name: str(value) for name, value in query.items() if value != ""}
        return self._console("/" + "/".join(path), **asked)[1]


@bug(1)
def test_a_month_is_whole_only_with_the_loans_that_pay_back_and_those_that_have_defaulted(reports, console, kiva):
    month = missing.look(ByHandler(console), "2026-10")
    assert {"status=payingBack", "status=defaulted"} <= {part for each in kiva.calls for part in each.query.split("&")}
    repayable = [loan for loan in kiva.has("loans") if loan["status"] in ("payingBack", "defaulted")]
    assert month.expected == len(month.missing) == len(repayable) > 50
    rows = [
        {"loan_id": loan["internal_loan_id"], "client_id": loan["internal_client_id"], "amount": 1}
        for loan in month.missing
    ]
    reports.batch({"period": "2026-10", "repayments": rows})
    assert [upload["problems"] for upload in kiva.has("uploads")] == [[]]
    assert missing.look(ByHandler(console), "2026-10").missing == []


@bug(2)
@pytest.mark.parametrize("bound", ["Default", "MaxValue"])
def test_a_thousand_rows_go_in_calls_of_three_hundred_at_most_and_each_row_in_one_of_them(reports, kiva, stack, bound):
    rows_per_call = cloudformation.read()["Parameters"]["RepaymentsPerCall"][bound]
    stack.set(REPAYMENTS_PER_CALL=rows_per_call)
    assert reports.batch(report(*((number, 100) for number in range(1, 1001)))) == []
    sizes = [len(body["repayments"]) for body in kiva.sent("repayments")]
    assert max(sizes) <= 300
    assert len(sizes) == 4
    reported = [row["loan_id"] for upload in kiva.has("uploads") for row in upload["rows"]]
    assert sorted(reported) == sorted(f"L-{70_000 + number}-1" for number in range(1, 1001))


@bug(3)
def test_a_row_that_kiva_refuses_is_rejected_alone_and_a_warning_is_shown(reports, console, kiva):
    assert reports.batch(report((1, 500), period="2026-09")) == []
    assert reports.batch(report((1, 400), (3, 100), (9999, 100))) == []
    assert len(kiva.sent("repayments")) == 2
    below, fine, lost = (
        console(f"/submissions/repayment/2026-10:L-{70_000 + number}-1:{amount}.00")[1]
        for number, amount in ((1, 400), (3, 100), (9999, 100))
    )
    assert (fine["state"], fine.get("problems")) == ("ACCEPTED", None)
    assert (below["state"], below["problems"][0]["severity"]) == ("ACCEPTED", "warning")
    assert below["problems"][0]["code"] == "repayment.amount_below_expected"
    assert (lost["state"], lost["problems"][0]["severity"]) == ("REJECTED", "error")
    assert lost["problems"][0]["code"] == "repayment.loan_not_found"


NO_AMOUNT = [{}, {"amount": None}, {"amount": ""}, {"amount": "0"}, {"amount": False}]


@bug(4)
@pytest.mark.parametrize("amount", NO_AMOUNT, ids=str)
def test_a_row_without_an_amount_goes_nowhere_and_never_as_nought(reports, kiva, stack, amount):
    message = report((1, 100), (3, 100))
    del message["repayments"][1]["amount"]
    message["repayments"][1] |= amount
    assert reports.batch(message) == []
    assert kiva.sent() == []
    (reason,) = stack.reasons
    assert "$.repayments[1].amount" in reason
    assert reports.post(message)[0] == 400


@bug(4)
@pytest.mark.parametrize("cell", ["", " ", "n/a", "-"])
def test_a_cell_without_an_amount_is_named_by_its_line_and_its_row_is_not_read(tmp_path, rules, cell):
    with (tmp_path / "month.csv").open("w", newline="") as file:
        rows = [("loan_id", "client_id", "amount"), ("L-1", "C-1", "100.00"), ("L-2", "C-2", cell)]
        csv.writer(file).writerows(rows)
    ready, bad = read([tmp_path / "month.csv"], rules, period="2026-10")
    assert [each.number for each in bad] == [3]
    assert b"L-2" not in b"".join(each.body for each in ready)


@bug(4)
def test_every_amount_that_arrives_is_one_that_was_sent(reports, kiva):
    """Also that of a loan that Kiva does not know: it is not made nought, and Kiva says that it does not know it."""
    reports.batch(report((1, 7500.5), (9999, 100)))
    ((known, unknown),) = (body["repayments"] for body in kiva.sent("repayments"))
    assert (known["amount"], unknown["amount"]) == (7500.5, 100)


# --- 5 to 7, 10, 11: drafts -------------------------------------------------------------------------------------------


@bug(5)
@pytest.mark.parametrize("parallel", ["1", "4"])
def test_drafts_of_one_batch_share_no_borrower_and_no_instalment(drafts, kiva, stack, parallel):
    stack.set(PARALLEL_CALLS=parallel)
    messages = [
        individual(
            f"L-{number}",
            f"C-{number}",
            number * 100,
            schedule=[{"date": f"2027-0{month}-01", "principal": number * 50} for month in range(1, 1 + number % 3)],
        )
        for number in range(1, 12)
        if number % 3
    ]
    messages.insert(3, group())
    messages.append(individual("L-99"))
    del messages[-1]["schedule"]
    assert drafts.batch(*messages) == []
    arrived = {body["entreps"][0]["loan_id"]: body for body in kiva.sent("loan_draft")}
    assert len(arrived) == len(kiva.sent()) == len(messages)
    for message in messages:
        body = arrived[message["entreps"][0]["loan_id"]]
        for name in ("entreps", "schedule"):
            assert body.get(name) == message.get(name)


AMOUNTS = ["60000", "60000.00", "0.1", "19.99", "1234567890.01", "999999999999.99", "100.10"]


@bug(6)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_arrives_as_the_principal_that_was_sent_to_the_cent(drafts, reports, kiva, amount):
    drafts.batch(json.dumps(individual(amount="AMOUNT")).replace('"AMOUNT"', amount))
    reports.batch(json.dumps(report((1, "AMOUNT"))).replace('"AMOUNT"', amount))
    draft, repayments = (json.loads(each.body, parse_float=Decimal, parse_int=Decimal) for each in kiva.calls)
    assert draft["entreps"][0]["amount"] == repayments["repayments"][0]["amount"] == Decimal(amount)


@bug(6)
def test_a_schedule_that_does_not_add_up_to_the_principal_is_told_and_nothing_is_made_to_fit(drafts, kiva):
    message = individual(amount=58500)  # what was paid out, where the schedule is of 60,000
    status, answer, _ = drafts.post(message, Prefer="wait")
    assert (status, answer["state"]) == (200, "ACCEPTED")
    assert "$.schedule: its principal must add up to the amount of the entreps" in answer["warnings"]
    (body,) = kiva.sent("loan_draft")
    assert (body["entreps"][0]["amount"], body["schedule"]) == (58500, message["schedule"])
    (kept,) = kiva.has("drafts")
    assert "schedule principal does not add up to the amount of the borrowers" in kept["pa2_messages"]


@bug(7)
def test_the_interest_of_the_schedule_is_what_was_planned_instalment_by_instalment(drafts, kiva):
    planned = [
        {"date": "2027-01-01", "principal": 20000, "interest": 900.25},
        {"date": "2027-02-01", "principal": 20000, "interest": 0},
        {"date": "2027-03-01", "principal": 20000},
    ]
    drafts.batch(individual(schedule=planned))
    assert [body["schedule"] for body in kiva.sent("loan_draft")] == [planned]


@bug(10)
@pytest.mark.parametrize("name", ["client_waiver_signed", "description_language_id", "activity_id", "theme_type_id"])
@pytest.mark.parametrize("make", [individual, group])
def test_what_the_mis_does_not_say_is_not_said_for_it(drafts, kiva, make, name):
    message = make()
    del message[name]
    drafts.batch(message)
    (body,) = kiva.sent("loan_draft")
    assert name not in body


@bug(10)
@pytest.mark.parametrize("signed", [True, False])
def test_a_consent_that_was_given_or_refused_arrives_so(drafts, kiva, signed):
    status, answer, _ = drafts.post(individual(client_waiver_signed=signed), Prefer="wait")
    assert status == 200
    assert ("$.client_waiver_signed" in str(answer.get("warnings"))) is not signed
    assert [body["client_waiver_signed"] for body in kiva.sent("loan_draft")] == [signed]


@bug(10)
def test_language_activity_and_theme_are_those_of_each_draft(drafts, kiva):
    names = ("description_language_id", "activity_id", "theme_type_id")
    wanted = [dict(zip(names, ids, strict=True)) for ids in ((1, 61, 48), (3, 12, 105), (4, 20, 1))]
    drafts.batch(*(individual(f"L-{number}", **ids) for number, ids in enumerate(wanted)))
    arrived = sorted(kiva.sent("loan_draft"), key=lambda body: body["entreps"][0]["loan_id"])
    assert [{name: body[name] for name in names} for body in arrived] == wanted


GROUP_FIELDS = {
    "group_name": "No Group",
    "internal_client_id": "C-1",
    "internal_loan_id": "L-1",
    "not_pictured": [False],
}


@bug(11)
@bug(21)
def test_an_individual_draft_has_no_field_of_a_group_not_even_an_empty_one(drafts, kiva):
    drafts.batch(individual(), individual("L-2", group_name="", internal_loan_id=None))
    assert len(kiva.sent("loan_draft")) == 2
    assert not [body for body in kiva.sent("loan_draft") if GROUP_FIELDS.keys() & body.keys()]
    assert not [it for kept in kiva.has("drafts") for it in kept["pa2_messages"] if "group" in it]


@bug(11)
@pytest.mark.parametrize("name", GROUP_FIELDS)
def test_an_individual_event_with_a_field_of_a_group_is_refused_by_name(drafts, kiva, stack, name):
    assert drafts.batch(individual(**{name: GROUP_FIELDS[name]})) == []
    assert [reason.partition(": ")[0] for reason in stack.reasons] == [f"$.{name}"]
    assert kiva.sent() == []


@bug(11)
@pytest.mark.parametrize("absent", [[False, True], [True, False], [False, False]])
def test_who_is_not_in_the_photo_arrives_in_the_order_of_the_borrowers(drafts, kiva, absent):
    message = group(not_pictured=absent)
    drafts.batch(message)
    (body,) = kiva.sent("loan_draft")
    assert body["not_pictured"] == absent
    assert [each["loan_id"] for each in body["entreps"]] == [each["loan_id"] for each in message["entreps"]]


@bug(11)
@pytest.mark.parametrize("absent", [[False], [False, True, False]])
def test_a_group_that_says_it_of_too_few_or_too_many_is_refused(drafts, kiva, stack, absent):
    drafts.batch(group(not_pictured=absent))
    (reason,) = stack.reasons
    assert reason.startswith("$.not_pictured: must have one value for each")
    assert kiva.sent() == []


# --- 8, 9: what fails alone, and what is sent once --------------------------------------------------------------------


@bug(8)
def test_one_that_cannot_be_taken_stops_none_of_its_neighbours(drafts, kiva, stack):
    bad = [
        "{",
        individual("L-2", currency="shillings"),
        {**individual("L-3"), "photo": {"s3_key": "photos/missing.png"}},
        individual("L-5", group_name="No Group"),
    ]
    del bad[2]["image_encoded"]
    assert drafts.batch(individual("L-1"), *bad, individual("L-4")) == []
    assert sorted(body["entreps"][0]["loan_id"] for body in kiva.sent("loan_draft")) == ["L-1", "L-4"]
    assert len(stack.reasons) == len(bad)


@bug(8)
def test_one_that_kiva_does_not_answer_stops_none_of_its_neighbours(drafts, kiva, state_of):
    def fail_the_first(request):
        kiva.wire.status = 500 if b'"L-1"' in request.body else None

    kiva.wire.before = fail_the_first
    assert drafts.batch(*(individual(f"L-{number}") for number in range(1, 5))) == []
    states = {f"L-{number}": state_of("loan_draft", f"L-{number}") for number in range(1, 5)}
    assert states.pop("L-1") == "UNKNOWN"
    assert set(states.values()) == {"ACCEPTED"}


@bug(9)
def test_it_is_written_down_that_a_draft_is_being_sent_before_kiva_gets_it(drafts, kiva, stack):
    states = []

    def look(request):
        if request.path.endswith("loan_draft"):
            states.extend(item["state"]["S"] for item in stack.ledger.items() if "loan_id" in item)

    kiva.wire.before = look
    drafts.batch(individual())
    assert states == ["SENDING"]


class Killed(BaseException):
    """What nothing in the code catches, as a kill."""


@bug(9)
@pytest.mark.parametrize(("before", "arrives"), [("settle", 1), ("post", 0)])
def test_a_death_between_the_post_and_writing_it_down_makes_no_second_post(
    drafts, kiva, state_of, monkeypatch, before, arrives
):
    """The same where it died a moment earlier: who comes after cannot tell."""

    def die(*_, **__):
        raise Killed

    where = {"settle": "kiva_partner.ledger.Ledger.settle", "post": "kiva_partner.client.KivaSession.post_loan_draft"}
    with time_machine.travel("2026-11-25T12:00:00Z") as time:
        with monkeypatch.context() as patch:
            patch.setattr(where[before], die)
            with pytest.raises(Killed):
                drafts.batch(individual())
        runtime.forget()
        assert drafts.batch(individual()) == ["m0"]  # the other one might still be at it
        assert state_of("loan_draft", "L-1") == "SENDING"
        time.shift(3600)
        assert drafts.batch(individual()) == []
        assert state_of("loan_draft", "L-1") == "UNKNOWN"
        assert drafts.batch(individual()) == []
    assert len(kiva.sent("loan_draft")) == len(kiva.has("drafts")) == arrives


@bug(9)
def test_an_answer_that_could_not_be_written_down_is_no_reason_to_post_again(drafts, kiva, monkeypatch):
    def fail(*_):
        drafts.context.seconds = 1  # until the time is over
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "settle", fail)
        assert drafts.batch(individual()) == ["m0"]
    drafts.context.seconds = 290
    drafts.batch(individual())
    assert len(kiva.has("drafts")) == 1


# --- 12 to 15, 18: requests and answers -------------------------------------------------------------------------------


@bug(12)
@pytest.mark.parametrize("secret", [PARTNER.client_secret, "a%2Bb c&grant_type=x=é+", "%", "ключ & ключ"])
def test_a_secret_of_any_characters_gets_a_token(another_kiva, signing_key, drafts, stack, secret):
    partner = Partner(client_secret=secret)
    with another_kiva(partner) as kiva:
        stack.lead_to(kiva, partner)
        assert drafts.batch(individual()) == []
        (asked,) = kiva.token_requests
        assert asked.form["client_secret"] == secret
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        assert asked.body.isascii()
        assert len(kiva.has("drafts")) == 1


@bug(13)
def test_every_post_says_that_it_is_json_in_the_header_that_says_so(kiva, everything):
    everything()
    posts = [each for each in kiva.calls if each.method == "POST"]
    assert {each.path.rpartition("/")[2] for each in posts} == {"loan_draft", "journals", "repayments"}
    assert {each.headers["content-type"] for each in posts} == {"application/json"}


@bug(13)
@pytest.mark.parametrize("media_type", ["Content-Type", "text/plain", "application/x-www-form-urlencoded"])
def test_the_imitation_would_have_noticed(kiva, stack, media_type):
    headers = {"Authorization": f"Bearer {runtime.tokens().get('create:loan_draft').value}", "Content-Type": media_type}
    url = f"{kiva.url}/v3/partner/{PARTNER.id}/loan_draft"
    assert requests.post(url, data="{}", headers=headers, timeout=10).status_code == 415


@bug(14)
def test_a_whole_run_logs_no_name_text_photo_token_or_secret(
    kiva, stack, drafts, updates, reports, console, capsys, caplog
):
    caplog.set_level("DEBUG")
    photo = data_uri(png(rest=b"canary pixels of a borrower"))
    invalid = draft_of_canaries("L-3", group_name="Canary Group")
    drafts.batch(draft_of_canaries(image_encoded=photo), draft_of_canaries("L-2"), invalid, "canary{")
    drafts.post(draft_of_canaries("L-4", image_encoded=photo), Prefer="wait")
    kiva.wire.status = 503
    drafts.batch(draft_of_canaries("L-5", image_encoded=photo))
    updates.batch(journals_of_canaries())
    kiva.wire.status = 400
    updates.batch(journals_of_canaries("L-6"))
    kiva.wire.status = None
    reports.batch(report((1, 100), (9999, 100)))
    console("/loans", query="Canary-Akinyi")
    import_module("housekeeping.app").handler({}, drafts.context)
    token = stack.token
    out, err = capsys.readouterr()
    written = out + err + "".join(it.getMessage() for it in caplog.records if it.name.startswith("kiva_partner"))
    assert "fetched a Kiva token" in written
    secrets = [token, *token.split("."), PARTNER.client_secret, PARTNER.client_id]
    pixels = base64.b64encode(b"pixels of a borrower").decode()
    for value in [*BORROWER, "canary", *secrets, quote_plus(PARTNER.client_secret), photo.partition(",")[2], pixels]:
        assert value.lower() not in written.lower()


NO_SUCCESS = [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 425, 429, 500, 502, 503, 504]


@bug(15)
@pytest.mark.parametrize("status", NO_SUCCESS)
def test_an_answer_that_would_be_a_success_but_for_its_status_is_none(drafts, kiva, console, status):
    """The body says `api.success`, with a uuid: whoever looks at it alone is fooled."""
    kiva.wire.status = status
    code, answer, _ = drafts.post(individual(), Prefer="wait")
    assert code != 200 or answer["state"] != "ACCEPTED"
    _, shown = console("/submissions/loan_draft/L-1")
    assert shown["state"] in ("QUEUED", "RETRY", "REJECTED", "UNKNOWN")
    assert "loan_draft_uuid" not in shown.get("kiva", {})


@bug(15)
@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_the_same_of_what_comes_by_the_queue(updates, reports, kiva, console, status):
    kiva.wire.status = status
    updates.batch(example(Kind.JOURNAL_UPDATE, "visit"))
    reports.batch(report((1, 100)))
    for kind in ("journal_update", "repayment"):
        assert console("/submissions", kind=kind, state="ACCEPTED")[1]["submissions"] == []


@bug(18)
def test_credentials_are_in_the_body_of_the_token_request_and_nowhere_else(kiva, everything):
    everything()
    assert kiva.token_requests
    for each in kiva.token_requests:
        assert (each.query, each.headers.get("authorization")) == ("", None)
        assert (each.form["client_id"], each.form["client_secret"]) == (PARTNER.client_id, PARTNER.client_secret)
        assert each.form["grant_type"] == "client_credentials"
    values = {PARTNER.client_id, PARTNER.client_secret}
    written = {form for value in values for form in (value, quote(value, safe=""), quote_plus(value))}
    written |= {base64.b64encode(f"{PARTNER.client_id}:{PARTNER.client_secret}".encode()).decode()}
    for each in kiva.wire.requests:
        outside = [each.path, each.query, *each.headers, *each.headers.values()]
        inside = [each.body.decode()] if each in kiva.calls else []
        assert not [value for value in written for text in outside + inside if value in text]


@bug(18)
def test_what_is_posted_is_json_and_no_form(kiva, everything):
    everything()
    posts = [each for each in kiva.calls if each.method == "POST"]
    assert posts
    for each in posts:
        assert isinstance(each.json, dict)
        assert each.query == ""
    assert {each.body for each in kiva.calls if each.method == "GET"} == {b""}


# --- 16: the schema ---------------------------------------------------------------------------------------------------

DRAFT = {
    "activity_id": int,
    "theme_type_id": int,
    "description_language_id": int,
    "location": str,
    "currency": str,
    "loanuse": str,
    "description": str,
    "client_waiver_signed": bool,
    "disburse_time": str,
    "entreps": [
        {
            "client_id": str,
            "loan_id": str,
            "first_name": str,
            "last_name": str,
            "gender": str,
            "amount": float,
        }
    ],
    "schedule": [{"date": str, "principal": float, "interest": float}],
    "image_encoded": str,
}
GROUP = {
    **DRAFT,
    "group_name": str,
    "internal_client_id": str,
    "internal_loan_id": str,
    "not_pictured": [bool],
}
JOURNALS = {
    "journals": [
        {
            "internal_loan_id": str,
            "internal_client_id": str,
            "subject": str,
            "body": str,
            "image_url": str,
        }
    ]
}
REPAYMENTS = {"repayments": [{"loan_id": str, "client_id": str, "amount": float}]}
"""Kiva's names and types, from its portal and samples: "Draft loans", "Post journals", "Report payments"."""


def misfits(value, schema, path="$"):
    """Where a body is not as Kiva has it: a name that it does not know, or another type."""
    match schema:
        case dict() if isinstance(value, dict):
            for name, each in value.items():
                if name in schema:
                    yield from misfits(each, schema[name], f"{path}.{name}")
                else:
                    yield f"{path}.{name}"
        case [of] if isinstance(value, list):
            for index, each in enumerate(value):
                yield from misfits(each, of, f"{path}[{index}]")
        case type() if type(value) is schema or (schema is float and type(value) is int):
            pass
        case _:
            yield path


def names(schema, path="$"):
    """Every name that a schema has, or a body."""
    match schema:
        case dict():
            for name, of in schema.items():
                yield f"{path}.{name}"
                yield from names(of, f"{path}.{name}")
        case list():
            for of in schema:
                yield from names(of, path)


SENT = [
    (Kind.LOAN_DRAFT, individual(), DRAFT),
    (Kind.LOAN_DRAFT, group(), GROUP),
    (Kind.JOURNAL_UPDATE, example(Kind.JOURNAL_UPDATE, "visit"), JOURNALS),
    (Kind.REPAYMENT, report((1, 100.5), (3, 20)), REPAYMENTS),
]


@bug(16)
@pytest.mark.parametrize(("kind", "message", "schema"), SENT, ids=["individual", "group", "journals", "repayments"])
def test_every_name_that_arrives_is_kivas_with_its_type_and_none_is_lost(kiva, stack, context, kind, message, schema):
    Function(kind, context).batch(message)
    (body,) = kiva.sent()
    assert list(misfits(body, schema)) == []
    assert set(names(body)) == set(names(schema))


@bug(16)
@pytest.mark.parametrize("kind", Kind)
def test_a_name_of_the_producers_own_or_a_misspelt_one_does_not_arrive(kiva, stack, context, kind):
    messages = {
        Kind.LOAN_DRAFT: group(internale_client_id="G-1"),
        Kind.JOURNAL_UPDATE: example(Kind.JOURNAL_UPDATE, "visit", user_id=1),
        Kind.REPAYMENT: {**report((1, 100)), "user_id": 1},
    }
    Function(kind, context).batch(messages[kind])
    (reason,) = stack.reasons
    assert reason.endswith("is not a field of this kind of message")
    assert kiva.sent() == []


@bug(16)
def test_what_is_only_for_us_stays_with_us(drafts, reports, kiva, stack):
    stack.set(REPAYMENT_AMOUNT_MODE="instalment")
    drafts.batch(group(reference="mis-1"))
    reports.batch(example(Kind.REPAYMENT, "payments"))
    assert list(misfits(kiva.sent("loan_draft")[0], GROUP)) == []
    assert list(misfits(kiva.sent("repayments")[0], REPAYMENTS)) == []


@bug(16)
def test_borrowers_schedule_and_truths_are_attached_as_they_were_said(drafts, kiva):
    messages = [group(client_waiver_signed=False), individual()]
    drafts.batch(*messages)
    arrived = {body["entreps"][0]["loan_id"]: body for body in kiva.sent("loan_draft")}
    for message in messages:
        body = arrived[message["entreps"][0]["loan_id"]]
        assert body == {name: value for name, value in message.items() if name != "reference"}


# --- 17: tokens, time and settings ------------------------------------------------------------------------------------


@bug(17)
def test_one_token_serves_many_calls_of_every_function(kiva, stack, context):
    for round_ in range(2):
        for kind, message in (
            (Kind.LOAN_DRAFT, individual(f"L-{round_}")),
            (Kind.JOURNAL_UPDATE, example(Kind.JOURNAL_UPDATE, "visit", reference=f"visit-{round_}")),
            (Kind.REPAYMENT, report((1, 100 + round_))),
        ):
            runtime.forget()  # as a new execution environment begins
            assert Function(kind, context).batch(message) == []
        assert Console(context)("/loans")[0] == 200
    assert len(kiva.calls) == 8
    assert len(kiva.token_requests) == 1
    assert len({each.headers["authorization"] for each in kiva.calls}) == 1


@bug(17)
def test_no_phase_of_a_request_may_last_for_ever(everything, monkeypatch):
    timeouts = []
    send = requests.Session.send

    def listen(self, request, **named):
        timeouts.append(named["timeout"])
        return send(self, request, **named)

    monkeypatch.setattr(requests.Session, "send", listen)
    everything()
    assert len(timeouts) > 10
    for timeout in timeouts:
        connecting, reading = timeout
        assert 0 < connecting <= 30
        assert 0 < reading <= 120


@bug(17)
def test_a_kiva_that_does_not_answer_is_left_in_time(drafts, kiva, stack, state_of):
    stack.set(KIVA_READ_TIMEOUT_SECONDS=1)
    kiva.switch(latency=60, fault_on="loan_draft")
    assert drafts.batch(individual()) == []
    assert state_of("loan_draft", "L-1") == "UNKNOWN"


@bug(17)
def test_stacks_of_two_partners_share_no_path_no_token_and_no_credentials(another_kiva, drafts, kiva, stack):
    other = Partner(id="4711", client_id="another-client", client_secret="another-secret")
    drafts.batch(individual())
    with another_kiva(other) as theirs:
        stack.lead_to(theirs, other)
        drafts.batch(individual())
        assert [each.path for each in kiva.calls] == ["/v3/partner/9001/loan_draft"]
        assert [each.path for each in theirs.calls] == ["/v3/partner/4711/loan_draft"]
        tokens = {each.headers["authorization"] for each in kiva.calls + theirs.calls}
        asked = [each.form["client_id"] for each in kiva.token_requests + theirs.token_requests]
    assert len(tokens) == 2
    assert asked == [PARTNER.client_id, other.client_id]


# --- 19 to 21: what is asked, and of whom -----------------------------------------------------------------------------

DOCUMENTED = re.compile(
    r"POST /oauth/token"
    r"|POST /v3/partner/9001/(loan_draft|journals|repayments)"
    r"|GET /v3/partner/9001/(loans|config/(activities|locales|themes|locations))"
)
PARAMETERS = {"query", "status", "offset", "limit"}


@bug(19)
def test_every_request_is_one_that_kiva_documents(kiva, everything):
    everything()
    asked = {f"{each.method} {each.path}" for each in kiva.wire.requests}
    assert [each for each in asked if not DOCUMENTED.fullmatch(each)] == []
    assert len(asked) == 9  # the token, three that write, loans, four lists: all there are
    parameters = {part.partition("=")[0] for each in kiva.wire.requests for part in each.query.split("&") if part}
    assert parameters <= PARAMETERS


SCOPE_OF = {
    "create:loan_draft": (Kind.LOAN_DRAFT, individual()),
    "create:journal_update": (Kind.JOURNAL_UPDATE, example(Kind.JOURNAL_UPDATE, "visit")),
    "create:repayment": (Kind.REPAYMENT, report((1, 100))),
}


@bug(20)
@pytest.mark.parametrize("granted", SCOPES)
def test_each_endpoint_works_with_a_token_of_its_own_scope_alone_and_with_no_other(
    another_kiva, stack, context, granted
):
    partner = Partner(scopes=(granted,))
    with another_kiva(partner) as kiva:
        stack.lead_to(kiva, partner)
        for scope, (kind, message) in SCOPE_OF.items():
            failures = Function(kind, context).batch(message)
            assert failures == ([] if scope == granted else ["m0"])
        reading = [Console(context)(path)[0] for path in ("/loans", "/config/themes")]
        assert reading == ([200, 200] if granted == "read:loans" else [502, 502])
        written = {each.path.rpartition("/")[2] for each in kiva.calls if each.method == "POST"}
        assert len(written) == (granted != "read:loans")


@bug(20)
@pytest.mark.parametrize("status", [200, 201, 202, 207, 299])
def test_every_2xx_is_a_success(drafts, updates, reports, kiva, console, status):
    kiva.wire.status = status
    drafts.batch(individual())
    updates.batch(example(Kind.JOURNAL_UPDATE, "visit"))
    reports.batch(report((1, 100)))
    accepted = [console("/submissions", kind=kind.value, state="ACCEPTED")[1]["submissions"] for kind in Kind]
    assert [len(each) for each in accepted] == [1, 2, 1]


@bug(20)
def test_the_header_holds_the_access_token_and_nothing_of_the_answer_around_it(kiva, stack, everything):
    everything()
    headers = {each.headers["authorization"] for each in kiva.calls}
    assert headers
    for header in headers:
        assert re.fullmatch(r"Bearer [\w-]+\.[\w-]+\.[\w-]+", header)
    token = stack.token
    assert f"Bearer {token}" in headers


@bug(21)
def test_journals_go_to_the_singular_path_in_their_wrapper(updates, kiva):
    message = example(Kind.JOURNAL_UPDATE, "visit")
    updates.batch(message)
    (call,) = kiva.calls
    assert call.path == f"/v3/partner/{PARTNER.id}/journals"
    assert call.json == {"journals": message["journals"]}


@bug(21)
@pytest.mark.parametrize("name", ["KIVA_TOKEN_URL", "KIVA_AUDIENCE", "KIVA_API_BASE_URL"])
@pytest.mark.parametrize("stage", AT_KIVA)
def test_a_host_that_only_looks_like_kivas_gets_no_credentials(stage, name):
    at_kiva = {**ENVIRONMENT, **AT_KIVA[stage]}
    assert Settings.from_environment(at_kiva)
    host = urlsplit(at_kiva[name]).hostname
    for other in (f"{host}g", f"{host}.example.org", host.replace("kiva.org", "kiva-org.net")):
        with pytest.raises(Misconfigured, match=f"{name} is no host of Kiva"):
            Settings.from_environment({**at_kiva, name: at_kiva[name].replace(host, other)})


@bug(21)
def test_the_check_of_credentials_shows_no_credentials(stack, console, capsys):
    """Kiva's sample for authorisation prints them."""
    status, answer = console("/check")
    assert status == 200
    assert all(each["ok"] for each in answer["checks"])
    shown = json.dumps(answer) + capsys.readouterr().out
    token = stack.token
    assert not [value for value in (PARTNER.client_secret, token) if value in shown]


def test_every_bug_has_a_test():
    marks = [mark for test in globals().values() for mark in getattr(test, "pytestmark", [])]
    assert {mark.args[0] for mark in marks if mark.name == "bug"} == ALL_BUGS
