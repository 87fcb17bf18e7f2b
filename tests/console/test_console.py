"""The coordinator's page: every section, every action, every way in which it goes wrong."""

import html
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import NoCredentialsError, TokenRetrievalError
from fastapi.testclient import TestClient

from cli.console import DAYS, create_app
from cli.relay_api import NoAnswer, Refused
from cli.stacks import NoSuchStack
from relay_answers import NOW, UUID, WHEN, call, refused, stack_with, submission, waiting

PAGES = (
    "/",
    "/loan",
    "/loan?id=L-10",
    "/submissions/loan_draft/L-10~2Fl",
    "/submissions/loan_draft/L-1~2Fl/decision",
)
DECISION = "/submissions/loan_draft/L-1~2Fl/decision"
ATTACK = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{1337*7}}"


def words(answer):
    """What somebody reads, in one line."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", answer.text, flags=re.DOTALL)
    return " ".join(text.replace("&gt;", ">").replace("&#39;", "'").split())


def query_of(answer):
    return urlsplit(answer.headers["location"]).query


# --- what is shown ---


def test_sections_come_by_urgency_with_their_counts(desk):
    text = words(desk.get("/"))
    titles = [
        "To decide",
        "Stuck",
        "Refused",
        "Repayment uploads to finalise",
        "Journals to confirm",
        "Drafts to publish",
    ]
    assert [f"{count} {title}" in text for count, title in zip((2, 1, 2, 1, 1, 2), titles, strict=True)] == [True] * 6
    places = [
        desk.get("/").text.index(f'<h2 id="{name}"')
        for name in ("unknown", "stuck", "rejected", "not_sent", "uploads", "archives")
    ]
    assert places == sorted(places)


def test_what_is_to_be_decided_comes_with_its_evidence(desk):
    text = words(desk.get("/"))
    assert "Kiva gave no answer in time (HTTP 504)" in text
    assert "attempt 1" in text
    assert "Look in PA2 > Loans > Drafts, then Loans" in text
    assert "For loan L-1" in text
    assert "send-again , by arn:aws:iam::1:user/amina: “not in PA2”" in text.replace("send-again,", "send-again ,")
    assert f'<time datetime="{WHEN}">' in desk.get("/").text


def test_what_is_stuck_comes_with_its_reason_and_can_be_given_up_and_nothing_else(relay, desk):
    assert "its message is a dead letter: it was received 100 times" in words(desk.get("/?section=stuck"))
    path = "/submissions/journal_update/L-13~2Fj/decision"
    assert f'href="{path}"' in desk.get("/?section=stuck").text
    form = desk.get(path)
    assert re.findall(r'name="decision" value="([^"]+)"', form.text) == ["abandon"]
    assert "Why it is stuck its message is a dead letter" in words(form)
    assert "Decided: 1 now ABANDONED." in words(
        desk.fill_in_and_read(path, {"decision": "abandon", "reason": "withdrawn"})
    )
    assert relay.waiting["stuck"] == []


def test_it_says_from_when_a_call_may_be_decided(desk):
    assert words(desk.get("/")).count("not before") == 1
    assert '<time datetime="2026-11-25T13:00:00+00:00">' in desk.get("/").text


def test_refused_rows_come_with_kivas_words_and_what_to_do(desk):
    text = words(desk.get("/"))
    assert "repayment.loan_not_found: No loan with this id is known" in text
    assert "api.error: activity_id is not valid" in text
    assert "correct it in your system and send it anew" in text


def test_uploads_come_with_rows_months_and_problems(desk):
    text = words(desk.get("/?section=uploads"))
    assert "Upload 90001 Rows 250, 2 with a problem Month 2026-10" in text


def test_archives_link_to_where_they_are_confirmed_without_telling_where_from(desk):
    address = "https://partners.staging.kiva.org/pa2/journals/confirm/48001"
    assert f'<a href="{address}" target="_blank" rel="noopener noreferrer">' in desk.get("/").text


def test_drafts_come_with_uuid_loan_and_warnings(desk):
    text = words(desk.get("/?section=drafts"))
    assert f"L-30 {UUID} a photo is missing" in text


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("https://partners.kiva.org/pa2/x?y=1#z", True),
        ("http://127.0.0.1:8080/pa2/journals/confirm/1", True),
        ("http://127.0.0.1:8080", True),
        ("http://127.0.0.1:80801/x", False),
        ("http://127.0.0.1:8080@evil.example/", False),
        ("http://partners.kiva.org/pa2", False),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("//evil.example/x", False),
        ("https:evil.example", False),
        ("https://user@evil.example/", False),
        ("https://evil.example\\@kiva.org/", False),
        ("https://kiva.org/\nx", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_only_https_and_the_imitations_own_host_are_linked_to(relay, desk_of, url, opened):
    relay.waiting["archives"][0]["confirm_url"] = url
    shown = desk_of(KivaApiBaseUrl="http://127.0.0.1:8080/").get("/?section=archives").text
    assert ('target="_blank"' in shown) is opened
    assert ("no address that may be opened" in shown) is not opened


def test_without_an_imitation_no_http_is_linked_to(relay, desk):
    relay.waiting["archives"][0]["confirm_url"] = "http:///x"
    assert 'target="_blank"' not in desk.get("/").text


def test_what_keeps_anything_from_being_sent_is_said_before_all_else(relay, desk):
    relay.waiting["sending"]["says"] = ["repayments are paused since 2026-11-28 10:00 UTC by arn:ann: <b>twice</b>"]
    page = desk.get("/").text
    said = "Repayments are paused since 2026-11-28 10:00 UTC by arn:ann: &lt;b&gt;twice&lt;/b&gt;."
    assert page.index("What waits for a person</h1>") < page.index(said) < page.index('class="counts"')


def test_nothing_waits(relay, desk):
    relay.waiting = {"days": 60}
    assert "Nothing waits for a person." in words(desk.get("/"))
    assert "under these filters" in words(desk.get("/?text=x"))


def test_filters_are_parameters_that_can_be_shared_and_come_back_in_the_form(relay, desk):
    page = desk.get("/?section=rejected&kind=loan_draft&days=7&text=L-10")
    assert relay.asked[-1] == (("waiting",), {"days": 7})
    assert "L-10" in page.text
    assert "L-11" not in page.text
    assert '<option value="rejected" selected>' in page.text
    assert '<option value="loan_draft" selected>' in page.text
    assert 'name="days" type="number" min="1" max="400" value="7"' in page.text
    assert 'name="text" value="L-10"' in page.text


def test_it_looks_back_sixty_days_unless_told(relay, desk):
    desk.get("/")
    assert relay.asked == [(("waiting",), {"days": DAYS})]


@pytest.mark.parametrize("query", ["days=0", "days=401", "days=x", "page=0", "page=x"])
def test_a_filter_that_makes_no_sense_is_named(desk, query):
    answer = desk.get(f"/?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] + ":" in words(answer)


def test_thousands_of_refused_rows_come_in_pages(relay, desk):
    relay.waiting["rejected"] = [refused(number) for number in range(2000)]
    overview = desk.get("/")
    assert overview.text.count('name="item" value="repayment/2026') == 20 + len(relay.waiting["not_sent"])
    assert "2000 Refused" in words(overview)
    assert "All 500: Refused" in words(overview)
    assert "1500 older entries are not here" in words(overview)
    last = desk.get("/?section=rejected&page=5")
    assert last.text.count('name="item"') == 100
    assert "Page 5 of 5" in words(last)
    assert "L-499" in last.text
    assert "Next page" not in last.text
    assert "Previous page" in last.text
    assert len(last.content) < 150_000


def test_a_page_after_the_last_is_empty_and_not_a_fault(desk):
    assert desk.get("/?section=rejected&page=9").status_code == 200


def test_an_upload_with_thousands_of_problems_shows_some_and_leads_to_all(relay, desk):
    relay.waiting["uploads"][0]["problems"] = [refused(number) for number in range(2000)]
    page = desk.get("/?section=uploads")
    assert page.text.count('<th scope="row">') == 100
    assert "2000 with a problem" in words(page)
    assert "400 more are in the" in words(page)
    link = html.unescape(re.search(r'href="(/problems.csv\?section=uploads[^"]*text=90001)"', page.text)[1])
    assert desk.get(link).text.count("\n") == 501


def test_the_table_of_problems_is_a_download_under_the_same_filters(desk):
    answer = desk.get("/problems.csv?kind=repayment&section=rejected")
    assert answer.headers["content-disposition"] == 'attachment; filename="kiva-problems-2026-11-25.csv"'
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.text.count("\n") == 2


def test_a_loan_shows_all_its_submissions(relay, desk):
    relay.submissions = [submission("repayment", 40, "ACCEPTED", period="2026-09"), submission("loan_draft", 40)]
    page = desk.get("/loan?id=+L-40+")
    assert relay.asked[-1] == (("submissions",), {"loan_id": "L-40"})
    assert "Repayment of 2026-09" in words(page)
    assert "/submissions/loan_draft/L-40~2Fl" in page.text


def test_a_loan_that_nobody_knows_is_said_so(desk):
    assert "Nothing is known of a loan with this id" in words(desk.get("/loan?id=L-0"))


def test_without_an_id_nothing_is_asked(relay, desk):
    assert desk.get("/loan").status_code == 200
    assert relay.asked == []


def test_a_submission_has_a_page_with_all_facts(relay, desk):
    decided = {"decision": "accepted", "reason": "it is there", "by": "arn", "at": WHEN, "kiva_reference": "90009"}
    relay.submissions = [
        submission(
            "repayment", 50, "ACCEPTED", period="2026-10", attempts=3, call_id="c-1", decisions=[decided],
            kiva={"upload_id": "90009"}, warnings=["the loan is new"], replaces="2026-10:L-50:90.00",
            replaced_by="2026-10:L-50:110.00",
        )
    ]  # fmt: skip
    page = desk.get("/submissions/repayment/2026-10:L-50:100.00")
    for fact in ("ACCEPTED", "Month 2026-10", "upload_id 90009", "Attempts 3", "c-1", "the loan is new", "it is there"):
        assert fact in words(page)
    assert 'href="/submissions/repayment/2026-10:L-50:90.00"' in page.text
    assert 'href="/submissions/repayment/2026-10:L-50:110.00"' in page.text


def test_a_message_of_several_shows_them_all(relay, desk):
    relay.submissions = [submission("repayment", number, reference=f"R7:L-{number}") for number in (1, 2)]
    text = words(desk.get("/submissions/repayment/R7"))
    assert "Message R7" in text
    assert "R7:L-1" in text
    assert "R7:L-2" in text


def test_a_submission_that_is_not_there_is_said_so(desk):
    answer = desk.get("/submissions/loan_draft/none")
    assert answer.status_code == 404
    assert "No submission of this kind has this reference" in words(answer)


# --- where one is ---


@pytest.mark.parametrize("path", [*PAGES, "/no-such-page"])
@pytest.mark.parametrize(
    ("environment", "place", "look"),
    [
        ("stage", "Kiva's test environment", ""),
        ("sandbox", "An imitation of Kiva", "imitation"),
        ("production", "PRODUCTION: Kiva itself", "production"),
    ],
)
def test_every_page_says_which_stack_stage_and_partner_it_is(desk_of, path, environment, place, look):
    page = desk_of(KivaEnvironment=environment).get(path)
    assert f"{place} · stack kiva-relay-stage · partner 9001" in words(page)
    assert f'<body class="{look}">' in page.text


# --- decisions ---


REPORT = "/submissions/repayment/2026-10:L-2:100.00/decision"


def test_rows_that_kiva_has_not_taken_are_ticked_beside_its_id_of_the_upload(relay, desk):
    relay.waiting["unknown"][1] |= {"kiva_reference": "90007", "look_for": "upload 90007"}
    page = desk.get(REPORT)
    assert 'name="kiva_reference" value="90007"' in page.text
    assert page.text.count('name="except"') == len(relay.waiting["unknown"][1]["submissions"]) > 1

    excepted = [relay.waiting["unknown"][1]["submissions"][0]["reference"]]
    desk.fill_in(REPORT, {"decision": "accepted", "reason": "seen", "kiva_reference": "90007", "except": excepted})

    assert relay.posted[0][1]["except"] == excepted


def test_ticks_stay_where_a_decision_is_refused_and_count_for_accepted_alone(relay, desk):
    excepted = [relay.waiting["unknown"][1]["submissions"][0]["reference"]]
    relay.refuses = Refused(409, {"title": "It cannot be decided now"})
    page = desk.fill_in(REPORT, {"decision": "accepted", "reason": "seen", "kiva_reference": "9", "except": excepted})
    assert f'value="{excepted[0]}" checked' in page.text
    relay.refuses = None
    desk.fill_in(REPORT, {"decision": "abandon", "reason": "seen", "except": excepted})
    assert relay.posted[1][1] == {"decision": "abandon", "reason": "seen"}


def test_what_was_refused_can_be_reopened_from_its_page(relay, desk):
    row = relay.waiting["rejected"][0]
    path = f"/submissions/{row['kind']}/{row['reference']}"
    assert "Reopen …" in words(desk.get(path))
    page = words(desk.get(f"{path}/decision"))
    assert "Reopen it only if nothing is wrong with it" in page
    assert "Kiva has it not" not in page

    done = desk.fill_in(f"{path}/decision", {"decision": "reopen", "reason": "the location is there now"})

    assert relay.posted[0][1] == {"decision": "reopen", "reason": "the location is there now"}
    assert done.status_code == 303
    row["reopened"] = True
    assert "Reopen" not in words(desk.get(path))


def test_a_decision_goes_to_the_relay_and_its_outcome_is_told(relay, desk):
    form = {
        "decision": "accepted",
        "reason": " found in PA2 ",
        "kiva_reference": f" {UUID} ",
        "back": "kind=loan_draft",
    }
    page = desk.fill_in_and_read(DECISION, form)
    sent = {"decision": "accepted", "reason": "found in PA2", "kiva_reference": UUID}
    assert relay.posted == [(("submissions", "loan_draft", "L-1~2Fl", "decision"), sent)]
    assert "Decided: 1 now ACCEPTED." in words(page)


def test_all_of_a_call_are_decided_together_and_counted(desk):
    path = "/submissions/repayment/2026-10:L-2:100.00/decision"
    assert "7 submissions went to Kiva in this call and are decided together" in words(desk.get(path))
    page = desk.fill_in_and_read(path, {"decision": "abandon", "reason": "no"})
    assert "Decided: 7 now ABANDONED." in words(page)


def test_kivas_reference_belongs_to_accepted_alone(relay, desk):
    desk.fill_in(DECISION, {"decision": "send-again", "reason": "not there", "kiva_reference": UUID})
    assert relay.posted[0][1] == {"decision": "send-again", "reason": "not there"}


def test_the_danger_of_doubling_is_said_plainly(desk):
    text = words(desk.get(DECISION))
    assert "Danger of doubling: if Kiva has it after all, there will be two drafts, and perhaps two loans" in text


def test_what_was_done_is_told_once(desk):
    answer = desk.fill_in(DECISION, {"decision": "abandon", "reason": "no"})
    assert "Decided" in words(desk.get(answer.headers["location"]))
    assert "Decided" not in words(desk.get(answer.headers["location"]))


def test_afterwards_the_same_filters_are_set_and_nothing_else_is_taken_over(desk):
    back = "kind=repayment&days=7&said=x&evil=%0d%0aSet-Cookie:a"
    answer = desk.fill_in(DECISION, {"decision": "abandon", "reason": "no", "back": back})
    assert query_of(answer).startswith("kind=repayment&days=7&said=")
    assert "evil" not in answer.headers["location"]
    assert answer.headers["location"].startswith("/?")


TOO_EARLY = Refused(409, {"title": "It cannot be decided now", "detail": "its call may still be under way"})
BROKEN = Refused(
    400,
    {
        "title": "The message breaks a rule",
        "errors": [
            {"field": "$.reason", "rule": "must be one line without control characters"},
            {"field": "$.kiva_reference", "rule": "must be the id that Kiva shows"},
        ],
    },
)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (TOO_EARLY, 409, "It cannot be decided now: its call may still be under way"),
        (Refused(409, {"title": "It cannot be decided now", "detail": "it is ACCEPTED"}), 409, "it is ACCEPTED"),
        (Refused(403, {"message": "The security token included in the request is expired"}), 403, "token included"),
        (NoAnswer("The relay's API does not answer: ConnectTimeout. Trying again is safe."), 502, "does not answer"),
        (BROKEN, 400, "must be one line without control characters"),
    ],
)
def test_an_error_stands_beside_the_form_and_nothing_typed_is_lost(relay, desk, error, status, told):
    relay.refuses = error
    typed = {"decision": "accepted", "reason": 'she said "yes"', "kiva_reference": "no & id", "back": "days=7"}
    answer = desk.fill_in(DECISION, typed)
    assert answer.status_code == status
    assert "Nothing was decided." in words(answer)
    assert told in words(answer)
    assert 'value="accepted" required aria-describedby="decide-accepted" checked' in answer.text
    assert 'value="she said &#34;yes&#34;"' in answer.text
    assert 'value="no &amp; id"' in answer.text
    assert 'name="back" value="days=7"' in answer.text


def test_what_is_wrong_with_a_field_is_tied_to_it(relay, desk):
    relay.refuses = BROKEN
    answer = desk.fill_in(DECISION, {"decision": "accepted"})
    assert 'aria-invalid="true" aria-describedby="decide-reason-wrong"' in answer.text
    assert 'id="decide-kiva_reference-wrong"' in answer.text


def test_what_does_not_wait_any_more_has_no_form(relay, desk):
    relay.waiting["unknown"] = []
    relay.submissions = [submission("loan_draft", 1, "ACCEPTED")]
    page = desk.get(DECISION)
    assert "This does not wait for a decision: it is ACCEPTED" in words(page)
    assert "<form" not in page.text


def test_what_waits_longer_than_is_looked_back_can_be_decided(relay, desk):
    relay.waiting["unknown"] = []
    relay.submissions = [submission("loan_draft", 1, "UNKNOWN")]
    assert '<form method="post"' in desk.get(DECISION).text


def test_one_of_so_many_that_its_call_does_not_list_it_is_decided_with_all_of_them(relay, desk):
    relay.waiting["unknown"] = [call("repayment", *range(100, 800))]
    page = words(desk.get("/submissions/repayment/2026-10:L-790:100.00/decision"))
    assert "Decide: Repayment L-790" in page
    assert "700 submissions went to Kiva in this call and are decided together" in page


@pytest.mark.parametrize("typed", ["", "Production", "yes"])
def test_production_wants_its_name_typed(relay, desk_of, typed):
    desk = desk_of(KivaEnvironment="production")
    answer = desk.fill_in(DECISION, {"decision": "abandon", "reason": "because", "confirmation": typed})
    assert answer.status_code == 400
    assert relay.posted == []
    assert "must be the word production" in words(answer)
    assert 'value="because"' in answer.text


def test_production_goes_on_when_its_name_was_typed(relay, desk_of):
    form = {"decision": "abandon", "reason": "because", "confirmation": "production"}
    assert desk_of(KivaEnvironment="production").fill_in(DECISION, form).status_code == 303
    assert relay.posted[0][1] == {"decision": "abandon", "reason": "because"}


@pytest.mark.parametrize("environment", ["stage", "sandbox"])
def test_elsewhere_no_name_is_asked_for(desk_of, environment):
    assert 'name="confirmation"' not in desk_of(KivaEnvironment=environment).get(DECISION).text


# --- done ---


@pytest.mark.parametrize(
    ("item", "section"),
    [
        (f"loan_draft/{UUID}", "drafts"),
        ("journal_update/48001", "archives"),
        ("repayment/90001", "uploads"),
        ("loan_draft/L-10~2Fl", "rejected"),
    ],
)
def test_what_is_done_leaves_the_list(relay, desk, item, section):
    before = len(relay.waiting[section])
    page = desk.fill_in_and_read("/done", {"item": item})
    assert relay.posted == [(("waiting", *item.split("/"), "done"), {})]
    assert len(relay.waiting[section]) == before - 1
    assert "1 taken off the list." in words(page)


def test_every_item_has_its_tick_or_button(desk):
    items = set(re.findall(r'name="item" value="([^"]+)"', desk.get("/").text))
    assert {f"loan_draft/{UUID}", "journal_update/48001", "repayment/90001", "repayment/2026-10:L-11:100.00"} < items


def test_many_are_done_at_once(relay, desk):
    relay.waiting["rejected"] = [refused(number) for number in range(100)]
    page = desk.fill_in_and_read("/done", {"item": [f"repayment/2026-10:L-{number}:100.00" for number in range(100)]})
    assert len(relay.posted) == 100
    assert "100 taken off the list." in words(page)


def test_what_cannot_be_marked_is_said_with_what_was(relay, desk):
    relay.refuses = Refused(404, {"title": "There is no such archive"})
    page = desk.fill_in_and_read("/done", {"item": ["journal_update/1"] * 50})
    assert "0 taken off the list. Then it stopped: There is no such archive" in words(page)
    assert len(relay.posted) < 50


def test_nothing_ticked_does_nothing(relay, desk):
    assert "0 taken off the list." in words(desk.fill_in_and_read("/done"))
    assert relay.posted == []


@pytest.mark.parametrize("item", ["", "/", "loan_draft", "x/y/z"])
def test_an_item_that_is_none_is_asked_about_and_not_a_fault(relay, desk, item):
    relay.refuses = Refused(404, {"title": "There is no such thing"})
    assert "There is no such thing" in words(desk.fill_in_and_read("/done", {"item": item or "?"}))


# --- published ---

SENT = 1795597200  # WHEN


@pytest.mark.parametrize(
    ("loan", "found"),
    [
        ({"internal_loan_id": "L-30", "create_time": SENT + 5000}, True),
        ({"internal_loan_id": "L-30", "create_time": (SENT + 5000) * 1000}, True),
        ({"internal_loan_id": "L-30", "create_time": SENT - 200}, True),
        ({"internal_loan_id": "L-30", "create_time": SENT - 86400}, False),
        ({"internal_loan_id": "L-30X", "create_time": SENT + 5000}, False),
        ({"internal_loan_id": "l-30", "create_time": SENT + 5000}, False),
        ({"internal_loan_id": "L-30", "create_time": None}, False),
        ({"internal_loan_id": "L-30"}, False),
    ],
)
def test_a_draft_is_published_when_its_very_loan_is_no_older(relay, desk, loan, found):
    relay.loans = [loan]
    page = desk.fill_in_and_read("/published")
    assert f"{int(found)} of 2 drafts are published, and off the list." in words(page)
    taken = [path for path, _ in relay.posted]
    assert taken == ([("waiting", "loan_draft", UUID, "done")] if found else [])


def test_only_drafts_that_are_shown_are_looked_for(relay, desk):
    assert "0 of 1 drafts" in words(desk.fill_in_and_read("/published", {"text": "L-31", "days": "7"}))
    assert (("waiting",), {"days": 7}) in relay.asked


def test_with_very_many_drafts_the_oldest_are_looked_for_first(relay, desk):
    draft = waiting()["drafts"][0]
    relay.waiting["drafts"] = [{**draft, "loan_id": f"D-{number}"} for number in range(130)]
    page = desk.fill_in_and_read("/published")
    assert "0 of 100 drafts are published, and off the list. 30 more were not looked for; do it again." in words(page)
    assert {query["query"] for path, query in relay.asked if path == ("loans",)} == {f"D-{n}" for n in range(30, 130)}


# --- what other pages, and words of others, cannot do ---


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (DECISION, {"decision": "abandon", "reason": "x"}),
        ("/done", {"item": "repayment/90001"}),
        ("/published", {}),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "x" * 43},
        {"token": "é"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": "", "Origin": ""},
        {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1:8091"},
        {"Origin": "http://evil.example"},
    ],
    ids=str,
)
def test_a_form_of_another_page_does_nothing(relay, desk, path, data, change):
    token = {"token": change["token"]} if "token" in change else {}
    headers = {name: value for name, value in change.items() if name != "token"}
    answer = desk.fill_in(path, {**data, **token}, **headers)
    assert answer.status_code == 403
    assert "did not come from a form of this page" in words(answer)
    assert relay.posted == []


def test_an_old_browser_that_says_only_its_origin_may_act(relay, desk):
    headers = {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1:8090"}
    assert desk.fill_in("/done", {"item": "repayment/90001"}, **headers).status_code == 303


def test_each_process_has_a_token_of_its_own(desk_of):
    assert desk_of().token() != desk_of().token()
    assert len(desk_of().token()) >= 43


def test_nothing_is_done_by_reading(relay, desk):
    for path in (*PAGES, "/done", "/published", "/problems.csv"):
        desk.get(path)
    assert relay.posted == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8090", "127.0.0.1.evil.example", "192.168.1.1", "www.localhost"]
)
@pytest.mark.parametrize("path", ["/", "/problems.csv", "/page.css"])
def test_who_asks_for_another_host_gets_nothing(relay, desk, host, path):
    answer = desk.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert relay.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090"])
def test_its_own_names_are_answered(desk, host):
    assert desk.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/no-such-page", "/page.css", "/page.js", "/problems.csv", "/?days=x"])
def test_every_answer_is_locked_down(desk, path):
    headers = desk.get(path).headers
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_nothing_runs_or_is_styled_inside_the_page(desk):
    for path in PAGES:
        text = desk.get(path).text
        assert re.findall(r"<script(?! src=\"/page.js\" defer>)|<style|\sstyle=|\son\w+=|javascript:", text) == []


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/page.html", "/../console.py", "/%2e%2e/console.py"]
)
def test_there_is_nothing_else_to_be_had(desk, path):
    assert desk.get(path).status_code == 404


def attacked(value):
    """The same with an attack in every text."""
    match value:
        case dict():
            return {name: attacked(each) for name, each in value.items()}
        case list():
            return [attacked(each) for each in value]
        case str():
            return value + ATTACK
    return value


@pytest.mark.parametrize("section", ["", "unknown", "stuck", "rejected", "not_sent", "uploads", "archives", "drafts"])
def test_words_of_others_are_only_shown(relay, desk, section):
    relay.waiting = attacked(waiting())
    page = desk.get("/", params={"section": section, "text": ATTACK})
    assert page.status_code == 200
    harmless(page)


def test_words_of_others_are_only_shown_on_the_other_pages(relay, desk):
    row = attacked(submission("repayment", 1, reason="x", problem={"code": "c", "details": "d"}, warnings=["w"],
                              period="p", kiva={"confirm_url": "https://kiva.org/", "x": "y"}, call_id="c",
                              replaces="r", replaced_by="s", stands_last="t", in_doubt=["u"],
                              not_sent="n", decisions=call("x", 1, decisions=[{"by": "b"}])
                              ["submissions"][0]["decisions"]))  # fmt: skip
    relay.submissions = [row | {"kind": "repayment", "reference": "R", "loan_id": "L"}]
    harmless(desk.get("/submissions/repayment/R"))
    harmless(desk.get("/loan?id=L"))
    harmless(desk.get("/loan", params={"id": ATTACK}))
    relay.submissions[0]["state"] = "UNKNOWN"
    relay.refuses = Refused(400, {"title": ATTACK, "errors": [{"field": "$.reason", "rule": ATTACK}]})
    harmless(desk.fill_in("/submissions/repayment/R/decision", dict.fromkeys(("decision", "reason", "back"), ATTACK)))
    harmless(desk.get("/submissions/repayment/" + ATTACK.replace("/", "")))


class Parts(HTMLParser):
    """The elements of a page, as a browser finds them."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def harmless(page):
    found = Parts(page.text).found
    assert [each for tag, each in found if tag == "script"] == [{"src": "/page.js", "defer": None}]
    assert {tag for tag, _ in found} & {"img", "iframe", "object", "style", "base"} == set()
    assert [each for _, each in found if any(name.startswith("on") or name == "style" for name in each)] == []
    assert {urlsplit(each.get("href") or "").scheme for _, each in found} <= {"", "https"}
    assert "9359" not in page.text


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("error", "status", "told", "mend"),
    [
        (NoAnswer("The relay's API does not answer: ConnectTimeout."), 502, "does not answer", "make up"),
        (Refused(403, {"message": "The security token included in the request is expired"}), 403, "expired", "aws sso"),
        (Refused(403, {"message": "User is not authorized"}), 403, "not authorized", "a role that may call"),
        (Refused(400, {"title": "A parameter is wrong"}), 400, "A parameter is wrong", "Nothing was changed"),
        (Refused(503, {"title": "Not now"}), 503, "Not now", "a little later"),
        (NoSuchStack("There are no AWS credentials to sign with"), 502, "no AWS credentials", "reload"),
        (NoCredentialsError(), 502, "NoCredentialsError", "aws sso login"),
        (TokenRetrievalError(provider="sso", error_msg="expired"), 502, "TokenRetrievalError", "aws sso login"),
    ],
)
def test_a_relay_that_cannot_be_asked_is_explained(relay, desk, error, status, told, mend):
    relay.fails = error
    for path in ("/", "/problems.csv", "/loan?id=1", "/submissions/repayment/1", DECISION):
        answer = desk.get(path)
        assert answer.status_code == status
        assert told in words(answer)
        assert mend in words(answer)
        assert "Traceback" not in answer.text


def test_whoever_logs_in_again_need_not_start_it_again(relay):
    """Credentials are looked for at each request, so that the page outlives them."""
    looked = []

    class Stack(SimpleNamespace):
        @property
        def api(self):
            looked.append(1)
            return relay

    known = vars(stack_with(relay))
    app = create_app(Stack(name=known["name"], parameters=known["parameters"]), now=lambda: NOW)
    client = TestClient(app, base_url="http://127.0.0.1:8090")
    client.get("/")
    client.get("/")
    assert len(looked) == 2


def test_a_fault_of_ours_is_a_page_and_tells_nothing_of_its_inside(relay, desk):
    relay.fails = ZeroDivisionError("inside")
    answer = desk.get("/")
    assert answer.status_code == 500
    assert "This page has a fault" in words(answer)
    assert "inside" not in answer.text


def test_a_relay_of_another_version_that_tells_less_is_shown_all_the_same(relay, desk):
    relay.waiting = {
        "unknown": [{"kind": "loan_draft", "submissions": [{"kind": "loan_draft", "reference": "R"}]}],
        "rejected": [{"kind": "repayment", "reference": "R"}],
        "uploads": [{"upload_id": "1"}],
        "archives": [{"archive_id": "1"}],
        "drafts": [{"reference": "R", "loan_id": "L", "loan_draft_uuid": "u"}],
    }
    assert desk.get("/").status_code == 200
    assert desk.get("/problems.csv").status_code == 200


def test_a_call_without_submissions_is_shown_all_the_same(relay, desk):
    relay.waiting["unknown"] = [{"kind": "repayment", "submissions": []}, {}]
    assert desk.get("/").status_code == 200


def test_a_reason_in_any_letters_arrives_as_it_was_typed(relay, desk):
    desk.fill_in(DECISION, {"decision": "abandon", "reason": "naïve “quotes” دفع"})
    assert relay.posted[0][1]["reason"] == "naïve “quotes” دفع"
