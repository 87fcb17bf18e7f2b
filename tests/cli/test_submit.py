"""`relay submit`: nothing goes before everything is good, all of it goes, and its outcomes are told."""

import json

import boto3
import pytest

from borrowers import NAME, STORY, draft
from cli.relay_api import NoAnswer, Refused
from images import png
from kiva_partner.photos import sniff_image

REPORT = "loan_id,amount\nL-1,10.50\nL-2,20.00\n"
TEXTS = [NAME, STORY, "canary"]


def told(ran):
    """What was shown, which must hold nothing of a borrower."""
    shown = ran.stdout + ran.stderr
    assert not [text for text in TEXTS if text in shown], shown
    return shown


@pytest.fixture
def report(write):
    return write("report.csv", REPORT)


# --- nothing is sent before everything is good ------------------------------------------------------------------------


def test_every_bad_line_is_listed_and_nothing_is_sent(run, relay, write, report):
    bad = write("bad.csv", "loan_id,amount\nL-1,canary\nL-2,canary\nL-3,1\nL-4,canary\ncanary\n")

    ran = run("submit", report, bad, "--period", "2026-10")

    assert ran.exit_code == 2
    amount = "amount must be digits, with a point and up to two decimals where needed"
    assert ran.stderr.splitlines() == [
        f"{bad}, lines 2 to 3: {amount}",
        f"{bad}, line 5: {amount}",
        f"{bad}, line 6: must have 2 columns and has 1",
    ]
    assert ran.stdout == "Nothing was sent.\n"
    assert relay.posted == []
    told(ran)


def test_what_is_bad_is_left_out_where_that_is_wanted(run, relay, write):
    file = write("report.csv", "loan_id,amount\nL-1,1\nL-2,canary\nL-3,3\n")

    ran = run("submit", file, "--period", "2026-10", "--skip-bad")

    assert ran.exit_code == 1
    assert "line 3: amount" in ran.stderr
    ((_, body),) = relay.posted
    assert [row["loan_id"] for row in body["repayments"]] == ["L-1", "L-3"]
    told(ran)


def test_nothing_good_is_nothing_to_send(run, relay, write):
    ran = run("submit", write("a.json", "[]"), "--skip-bad")

    assert ran.exit_code == 2
    assert relay.posted == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("no-such-file.csv",),
        (".",),
        ("report.csv",),
        ("report.csv", "--period", "October"),
        ("report.csv", "--reference", "R 7"),
        ("report.csv", "report.csv", "--reference", "R7"),
        ("report.csv", "--period", "2026-10", "--wait-seconds", "0"),
        ("report.csv", "--period", "2026-10", "--loudly"),
    ],
)
def test_what_cannot_be_meant_sends_nothing(run, relay, report, monkeypatch, arguments):
    monkeypatch.chdir(report.parent)

    ran = run("submit", *arguments)

    assert ran.exit_code == 2
    assert ran.stderr
    assert ran.stdout == ""
    assert relay.posted == []


WITHOUT_MONTH = {
    "a CSV": ("report.csv", REPORT),
    "JSON": ("report.json", {"repayments": [{"loan_id": "L-1", "amount": 10.5}]}),
}


@pytest.mark.parametrize("content", WITHOUT_MONTH.values(), ids=WITHOUT_MONTH)
def test_of_repayments_without_a_month_somebody_is_asked_whether_they_are_of_last_month(
    run, relay, write, somebody, content
):
    file = write(*content)

    no = run("submit", file, typed="n\n")
    assert (no.exit_code, relay.posted) == (2, [])
    assert "Are they of 2026-10?" in no.stderr
    assert "--period" in no.stderr

    assert run("submit", file, typed="y\n").exit_code == 0
    assert [body["period"] for _, body in relay.posted] == ["2026-10"]


@pytest.mark.parametrize("content", WITHOUT_MONTH.values(), ids=WITHOUT_MONTH)
def test_where_nobody_is_asked_repayments_without_a_month_are_refused(run, relay, write, content):
    for arguments in ((), ("--yes",)):
        ran = run("submit", write(*content), *arguments)
        assert (ran.exit_code, relay.posted) == (2, [])
        assert "the reporting month (YYYY-MM) is needed" in ran.stderr


def test_the_month_that_was_meant_is_named_where_nobody_can_be_asked(run, report):
    assert "Of last month: --period 2026-10" in run("submit", report).stderr


def test_a_reference_needs_no_month_and_nobody_is_asked(run, relay, report, somebody):
    assert run("submit", report, "--reference", "R7").exit_code == 0
    assert "period" not in relay.posted[0][1]


def test_lines_that_were_not_read_are_named_and_counted(run, relay, write):
    file = write("report.csv", 'loan_id,amount\nL-1,1\nL-2,canary\n\n"L-3,3\nL-4,4\n')
    visits = write("visits.csv", "canary;canary\n")
    messages = write("a.json", [{"canary": 1}, {**draft(), "one": 1, "two": 2}])

    ran = run("submit", file, visits, messages, "--period", "2026-10", "--skip-bad")
    told_as_json = run("submit", file, visits, messages, "--period", "2026-10", "--skip-bad", "--json")

    assert ran.exit_code == 1
    because = "not read, because a quote mark opens a cell that no other closes"
    assert f"{file}, lines 5 to 6: {because}\n" in ran.stderr
    assert "Not sent, and to be fixed: 1 file, 3 lines, 2 messages" in told(ran)
    document = json.loads(told_as_json.stdout)
    assert document["bad"][1] == {"file": str(file), "line": 5, "last_line": 6, "rule": because}
    assert document["left_out"] == {"file": 1, "line": 3, "message": 2}
    assert [row["loan_id"] for row in relay.posted[0][1]["repayments"]] == ["L-1"]


def test_two_amounts_of_one_loan_are_not_sent_and_neither_is_chosen(run, relay, write):
    one, two = write("one.csv", "loan_id,amount\nL-1,300\nL-2,5\n"), write("two.csv", "loan_id,amount\nL-1,200\n")

    assert run("submit", one, two, "--period", "2026-10").exit_code == 2
    assert relay.posted == []
    ran = run("submit", one, two, "--period", "2026-10", "--skip-bad")

    assert f"{two}, line 2: reports 200.00, and {one}, line 2 reports 300.00 for the same loan" in ran.stderr
    assert [[row["loan_id"] for row in body["repayments"]] for _, body in relay.posted] == [["L-2"]]


# --- the month --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["2062-10", "2027-01", "2025-10"])
def test_a_month_far_from_today_is_asked_about_before_anything_is_sent(run, relay, report, somebody, period):
    ran = run("submit", report, "--period", period, typed="n\n")

    assert ran.exit_code == 130
    assert f"{report}, lines 2 to 3: the month {period} is " in ran.stderr
    assert relay.posted == []
    assert run("submit", report, "--period", period, typed="y\n").exit_code == 0
    assert len(relay.posted) == 1


def test_where_nobody_answers_such_a_month_is_wrong_use_without_yes(run, relay, report):
    ran = run("submit", report, "--period", "2062-10", typed="y\n")

    assert ran.exit_code == 2
    assert ran.stderr.splitlines()[-1] == "Nothing was sent. Correct the month; or, if it is meant so, say --yes."
    assert relay.posted == []
    assert run("submit", report, "--period", "2062-10", "--yes").exit_code == 0


def test_a_month_within_a_message_is_asked_about_too(run, relay, write, somebody):
    rows = {"repayments": [{"loan_id": "L-1", "amount": 1}]}
    file = write("a.json", [{"period": "2026-10", **rows}, {"period": "2020-10", **rows}])

    ran = run("submit", file, typed="n\n")

    assert f"{file}, message 2: the month 2020-10 is 73 months back" in ran.stderr
    assert "2026-10" not in ran.stderr
    assert relay.posted == []


@pytest.mark.parametrize("period", ["2026-12", "2026-11", "2026-10", "2025-11"])
def test_a_usual_month_is_not_asked_about(run, report, period):
    assert run("submit", report, "--period", period).stderr == ""


def test_a_month_that_belongs_to_nothing_is_wrong_use(run, relay, write):
    journals = {"journals": [{"internal_loan_id": "L-1", "subject": "canary", "body": STORY}]}

    ran = run("submit", write("a.json", [draft(), journals]), "--period", "2026-10")

    assert ran.exit_code == 2
    journals_and_drafts = (
        "--period is not used for journal update and loan draft messages: only repayments have a month."
    )
    assert ran.stderr == f"{journals_and_drafts}\n"
    assert relay.posted == []


def test_a_month_that_belongs_to_some_of_it_is_said_not_to_be_used_for_the_rest(run, relay, write, report):
    ran = run("submit", write("a.json", draft()), report, "--period", "2026-10")

    assert ran.exit_code == 0
    assert ran.stderr == "--period is not used for loan draft messages: only repayments have a month.\n"
    assert len(relay.posted) == 2


def test_a_month_is_not_wrong_where_the_repayments_are_what_is_bad(run, relay, write):
    files = write("a.json", draft()), write("bad.csv", "loan_id,amount\nL-1,x\n")

    ran = run("submit", *files, "--period", "2026-10", "--skip-bad")

    assert ran.exit_code == 1
    assert "--period is not used for loan draft messages" in ran.stderr
    assert len(relay.posted) == 1


# --- all of it goes ---------------------------------------------------------------------------------------------------


def test_ten_thousand_rows_are_ten_messages(run, relay, write):
    rows = [f"L-{number},{number}.25" for number in range(10_000)]

    ran = run("submit", write("report.csv", "\n".join(["loan_id,amount", *rows])), "--period", "2026-10", "--json")

    assert ran.exit_code == 0
    assert len(relay.posted) == 10
    sent = {row["loan_id"] for path, body in relay.posted for row in body["repayments"]}
    assert len(sent) == 10_000
    assert json.loads(ran.stdout)["totals"] == {"QUEUED": 10_000}


def test_each_kind_goes_its_own_way(run, relay, write, report):
    journals = {"journals": [{"internal_loan_id": "L-1", "subject": "canary", "body": STORY}]}

    ran = run("submit", write("a.json", [draft(), journals]), report, "--period", "2026-10")

    assert ran.exit_code == 0
    assert sorted(path for path, _ in relay.posted) == [("journal-updates",), ("loan-drafts",), ("repayments",)]
    assert "Taken in: 3 of 3 messages; submissions: 4 QUEUED" in told(ran)


def test_a_photo_is_in_the_bucket_before_its_draft_is_sent(run, stack, write, aws, relay):
    boto3.client("s3").create_bucket(Bucket="payloads")
    content = png(rest=b"canary")
    write("akinyi.jpg", content)

    ran = run("submit", write("a.json", draft(photo={"file": "akinyi.jpg"})))

    assert ran.exit_code == 0
    image, _ = sniff_image(content, 10**6)
    stored = boto3.client("s3").get_object(Bucket="payloads", Key=image.s3_key)
    assert stored["Body"].read() == content
    assert stored["ContentType"] == "image/png"
    assert relay.posted[0][1]["photo"] == {"s3_key": image.s3_key}
    told(ran)


def test_no_photo_is_uploaded_while_something_is_bad(run, relay, write, aws):
    boto3.client("s3").create_bucket(Bucket="payloads")
    write("akinyi.jpg", png())

    ran = run("submit", write("a.json", [draft(photo={"file": "akinyi.jpg"}), {"canary": 1}]))

    assert ran.exit_code == 2
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="payloads")
    assert relay.posted == []


def test_a_bucket_that_does_not_take_the_photo_ends_it_before_anything_is_sent(run, relay, write, aws):
    write("akinyi.jpg", png())

    ran = run("submit", write("a.json", draft(photo={"file": "akinyi.jpg"})))

    assert ran.exit_code == 3
    assert "NoSuchBucket" in told(ran)
    assert relay.posted == []


# --- what the relay says ----------------------------------------------------------------------------------------------

BUSY = Refused(503, {"title": "It was not taken in; send it again, that is always safe"})


@pytest.mark.parametrize(
    "first", [NoAnswer("The relay's API does not answer"), BUSY, Refused(429, {}), Refused(504, {})]
)
def test_what_was_not_taken_in_is_sent_anew(run, relay, report, pauses, first):
    relay.answers = [first, first]

    ran = run("submit", report, "--period", "2026-10")

    assert ran.exit_code == 0
    assert len(relay.posted) == 3
    assert len(pauses) == 2
    assert pauses[0] < pauses[1] * 3


def test_who_never_answers_is_given_up_and_said_to_be_safe_to_repeat(run, relay, report, pauses):
    relay.answers = [NoAnswer("The relay's API does not answer: ConnectTimeout. Trying again is safe.")] * 5

    ran = run("submit", report, "--period", "2026-10", "--wait")

    assert ran.exit_code == 3
    assert "ConnectTimeout. Trying again is safe." in told(ran)
    assert len(pauses) == 4


def test_what_the_relay_refuses_is_listed_by_its_place_and_the_rest_goes(run, relay, write):
    conflict = {
        "title": "The reference belongs to other content",
        "detail": "Kiva has no update",
        "references": [f"2026-10:L-{number}:1.00" for number in range(7)],
    }
    relay.answers = [Refused(409, conflict)]
    file = write("a.json", [draft(1), draft(2)])

    ran = run("submit", file)

    assert ran.exit_code == 1
    shown = " ".join(told(ran).split())
    assert "belongs to other content" in shown
    assert "2026-10:L-4:1.00 and 2 more" in shown
    assert "Taken in: 1 of 2 messages; submissions: 1 QUEUED" in shown


def test_what_kiva_refuses_at_once_is_an_outcome(run, relay, write):
    refused = {"title": "Kiva refused it", "status": 422, **relay.shown("loan_draft", "L-1", "L-1", "REJECTED")}
    relay.answers = [Refused(422, refused)]

    ran = run("submit", write("a.json", draft()), "--wait", "--json")

    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["totals"] == {"REJECTED": 1}


def test_who_may_not_submit_is_told_so_once(run, relay, report):
    relay.answers = [Refused(403, {"message": "User is not authorized"})]

    ran = run("submit", report, "--period", "2026-10")

    assert ran.exit_code == 3
    assert ran.stderr == "The relay does not do it: User is not authorized\n"
    assert len(relay.posted) == 1


def test_a_stack_that_is_not_there_is_told_before_anything_is_read(run, report):
    ran = run("submit", report, "--period", "2026-10", "--stage", "production")

    assert ran.exit_code == 3
    assert "it has local, prod" in ran.stderr


def test_words_of_the_relay_do_not_command_the_terminal(run, relay, report):
    relay.answers = [Refused(400, {"title": "\x1b[31mred[/] [bold]\u202eback\n"})]

    shown = told(run("submit", report, "--period", "2026-10"))

    assert "?[31mred[/] [bold]?back?" in shown


def test_a_fault_of_the_command_shows_no_text_of_an_error(run, relay, report):
    relay.answers = [RuntimeError(f"{NAME} at hand")]

    ran = run("submit", report, "--period", "2026-10")

    assert ran.exit_code == 1
    assert "fault of the command itself (RuntimeError at " in told(ran)


def test_an_interruption_is_said_to_be_safe_to_repeat(run, relay, report):
    relay.answers = [KeyboardInterrupt()]

    ran = run("submit", report, "--period", "2026-10")

    assert ran.exit_code == 130
    assert "may be repeated" in ran.stderr


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_who_waits_sees_every_ending(run, relay, write):
    relay.ending = {"L-2": "REJECTED", "L-3": "UNKNOWN", "L-4": "ABANDONED", "L-5": "STUCK"}
    file = write("report.csv", "loan_id,amount\nL-1,1\nL-2,2\nL-3,3\nL-4,4\nL-5,5\n")

    ran = run("submit", file, "--period", "2026-10", "--wait")

    assert ran.exit_code == 1
    shown = told(ran)
    for reference in ("2026-10:L-1:1.00", "2026-10:L-2:2.00", "2026-10:L-3:3.00", "2026-10:L-4:4.00"):
        assert reference in shown
    assert "Taken in: 1 of 1 messages; submissions: 1 ACCEPTED, 1 REJECTED, 1 UNKNOWN, 1 ABANDONED, 1 STUCK" in shown


def test_what_is_stuck_has_ended_for_who_waits_and_needs_somebody(run, relay, report):
    relay.ending = {"L-2": "STUCK"}

    assert run("submit", report, "--period", "2026-10", "--wait").exit_code == 1


def test_what_pa2_will_want_mended_is_told_with_its_draft(run, relay, write):
    warned = relay.shown("loan_draft", "L-1", "L-1", "ACCEPTED", warnings=["$.photo is missing"])
    relay.answers = [warned]

    assert "$.photo is missing" in run("submit", write("a.json", draft()), "--wait").stdout


def test_who_waits_in_vain_is_told_what_is_still_open(run, relay, report, monkeypatch):
    relay.ending = {"L-2": "SENDING"}
    monkeypatch.setattr("cli.submit.POLL_SECONDS", (0.0,))
    times = iter(range(100))
    monkeypatch.setattr("cli.app.time.monotonic", lambda: next(times))

    ran = run("submit", report, "--period", "2026-10", "--wait", "--wait-seconds", "5")

    assert ran.exit_code == 4
    assert "1 ACCEPTED, 1 SENDING" in told(ran)


def test_a_look_that_fails_is_taken_again(run, relay, report, monkeypatch):
    looks, look = [], relay.get

    def sometimes(*path, **query):
        looks.append(path)
        if len(looks) == 1:
            raise NoAnswer("The relay's API does not answer")
        if len(looks) == 2:
            raise BUSY
        return look(*path, **query)

    monkeypatch.setattr(relay, "get", sometimes)

    assert run("submit", report, "--period", "2026-10", "--wait").exit_code == 0
    assert len(looks) == 3


def test_alike_endings_of_many_share_a_line(run, relay, write):
    relay.ending = {"L-7": "REJECTED"}
    rows = [f"L-{number},1" for number in range(2500)]

    ran = run("submit", write("report.csv", "\n".join(["loan_id,amount", *rows])), "--period", "2026-10", "--wait")

    assert "2026-10: 2499 loans" in ran.stdout
    assert "2026-10:L-7:1.00" in ran.stdout
    assert len(ran.stdout.splitlines()) < 20


def test_json_holds_every_outcome_and_nothing_else_is_on_standard_output(run, relay, write):
    relay.ending = {"L-2": "REJECTED"}
    file = write("report.csv", f"{REPORT}L-3,canary\n")

    ran = run("submit", file, "--period", "2026-10", "--skip-bad", "--wait", "--json")

    document = json.loads(ran.stdout)
    assert document["bad"] == [{"file": str(file), "line": 4, "rule": document["bad"][0]["rule"]}]
    (message,) = document["messages"]
    assert message["states"] == document["totals"] == {"ACCEPTED": 1, "REJECTED": 1}
    assert [each["loan_id"] for each in document["submissions"]] == ["L-1", "L-2"]
    told(ran)
