import base64
import json
import random
import re
from importlib import import_module
from urllib.parse import quote

import pytest
import responses
import time_machine

from fakes import PARTNER_URL
from invocations import request, routes
from kiva_partner import runtime
from kiva_partner.messages import Kind
from template.cloudformation import ROOT


def test_a_submission_shows_what_a_person_must_do_next(function, deployed, console):
    function.batch(function.message("L-1"))
    _, found = console("/submissions", kind=function.kind.value, state="ACCEPTED")
    status, body = console(f"/submissions/{function.kind}/{found['submissions'][0]['reference']}")
    assert status == 200
    assert re.search("PA2|confirm_url", body["next_step"])
    assert body["kiva"]


def test_what_is_retried_says_why_it_was_not_sent_and_by_when_it_is_tried_again(drafts, deployed, console):
    deployed.answers = [(429, {})]
    with time_machine.travel("2026-11-28T10:00:00Z", tick=False):
        drafts.batch(drafts.message("L-1"))
    assert console("/submissions/loan_draft/L-1")[1]["next_step"] == (
        "nothing: Kiva asks to come later: HTTP 429; it is tried again by itself, by 2026-11-28 11:00 UTC"
    )


@pytest.mark.parametrize("path", ["/submissions/loan_draft/none", "/submissions/repayment/2026-10:L-1:1.00"])
def test_an_unknown_reference_is_not_found(console, path):
    status, body = console(path)
    assert (status, body["title"]) == (404, "No submission of this kind has this reference")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"kind": "loan_drafts", "state": "UNKNOWN"}, "kind"),
        ({"kind": "loan_draft", "state": "LOST"}, "state"),
        ({"kind": "loan_draft"}, "state"),
        ({"kind": "loan_draft", "state": "UNKNOWN", "limit": "1001"}, "limit"),
        ({"kind": "loan_draft", "state": "UNKNOWN", "limit": "٣"}, "limit"),
        ({"kind": "loan_draft", "state": "UNKNOWN", "cursor": "x"}, "cursor"),
    ],
)
def test_a_wrong_parameter_is_named(console, query, field):
    status, body = console("/submissions", **query)
    assert (status, body["errors"][0]["field"]) == (400, field)


def test_a_list_is_read_page_by_page(drafts, console):
    drafts.batch(*(drafts.message(f"L-{number}") for number in range(3)))
    seen, query = [], {}
    while True:
        _, body = console("/submissions", kind="loan_draft", state="accepted", limit="2", **query)
        seen += [each["reference"] for each in body["submissions"]]
        if "cursor" not in body:
            break
        query = {"cursor": body["cursor"]}
    assert sorted(seen) == ["L-0", "L-1", "L-2"]


CONSOLE = [route for route in routes() if route[1] not in ("/loan-drafts", "/journal-updates", "/repayments")]


def _cursor(*place):
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


WHERE = (
    "sandbox#9001#loan_draft#ACCEPTED",
    "2026-11-24T09:00:00.000000+00:00",
    "sandbox#9001#submission#loan_draft#L-1",
)
PLACES = {
    "no base64": "%%%",
    "é": "é",
    "no UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "no JSON": base64.urlsafe_b64encode(b"{").decode(),
    "deep JSON": base64.urlsafe_b64encode(b"[" * 6000).decode(),
    "an object": base64.urlsafe_b64encode(json.dumps({"pk": {"S": WHERE[2]}}).encode()).decode(),
    "too few": _cursor(*WHERE[:2]),
    "too many": _cursor(*WHERE, "x"),
    "numbers": _cursor(*WHERE[:2], 5),
    "nothing": _cursor(None, None, None),
    "another state": _cursor("sandbox#9001#loan_draft#REJECTED", *WHERE[1:]),
    "another kind": _cursor("sandbox#9001#repayment#ACCEPTED", *WHERE[1:]),
    "another partner": _cursor("sandbox#63#loan_draft#ACCEPTED", *WHERE[1:]),
    "another index": _cursor("sandbox#9001#L-1", *WHERE[1:]),
    "no time": _cursor(WHERE[0], "yesterday", WHERE[2]),
    "no time of ours": _cursor(WHERE[0], "2026-11-24", WHERE[2]),
    "before since": _cursor(WHERE[0], "2026-11-22T09:00:00.000000+00:00", WHERE[2]),
    "no key": _cursor(*WHERE[:2], ""),
    "a key of something else": _cursor(*WHERE[:2], "sandbox#9001#done#loan_draft#x"),
    "another partner's key": _cursor(*WHERE[:2], WHERE[2].replace("9001", "63")),
    "a long key": _cursor(*WHERE[:2], WHERE[2] + "x" * 2048),
    "half a character": base64.urlsafe_b64encode(json.dumps([*WHERE[:2], WHERE[2] + "\ud800"]).encode()).decode(),
}


@pytest.mark.parametrize("cursor", PLACES.values(), ids=PLACES)
def test_a_cursor_that_this_list_did_not_give_out_is_refused(console, cursor):
    status, body = console("/submissions", kind="loan_draft", state="ACCEPTED", since="2026-11-23", cursor=cursor)
    assert (status, body["errors"][0]["field"]) == (400, "cursor")


def test_the_place_that_the_forged_ones_begin_with_is_a_good_one(console):
    query = {"kind": "loan_draft", "state": "ACCEPTED", "since": "2026-11-23", "cursor": _cursor(*WHERE)}
    assert console("/submissions", **query) == (200, {"submissions": []})


def test_a_cursor_of_one_list_is_refused_by_every_other(drafts, reports, console):
    drafts.batch(drafts.message("L-1"), drafts.message("L-2"))
    reports.batch(reports.message("L-1"), {**reports.message("L-1"), "period": "2026-11"})
    lists = [
        {"kind": "loan_draft", "state": "ACCEPTED"},
        {"kind": "repayment", "state": "ACCEPTED"},
        {"loan_id": "L-1"},
    ]
    cursors = [console("/submissions", limit="1", **query)[1]["cursor"] for query in lists]
    others = [*lists, {"kind": "loan_draft", "state": "REJECTED"}, {"loan_id": "L-2"}]
    for number, cursor in enumerate(cursors):
        answers = [console("/submissions", cursor=cursor, **query)[0] for query in others]
        assert answers == [200 if other == number else 400 for other in range(len(others))]


def test_the_submissions_of_a_loan_are_read_page_by_page(reports, console):
    for month in range(1, 6):
        reports.batch({**reports.message("L-1"), "period": f"2026-{month:02}"})
    seen, query = [], {}
    while True:
        _, body = console("/submissions", loan_id="L-1", limit="2", **query)
        seen += [each["period"] for each in body["submissions"]]
        if "cursor" not in body:
            break
        query = {"cursor": body["cursor"]}
    assert seen == [f"2026-{month:02}" for month in range(5, 0, -1)]


LONG = {"ASCII": "x" * 3000, "letters of several bytes": "ж" * 1100, "a limit by bytes": "x" * 2048}


@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
def test_what_is_too_long_to_be_a_key_is_no_fault_of_ours(console, name):
    body = {"decision": "abandon", "reason": "it was a test"}
    for path in ("/submissions/loan_draft/{}", "/submissions/{}/L-1", "/config/{}"):
        assert console(path.format(quote(name)))[0] in (400, 404)
    assert console(f"/submissions/loan_draft/{quote(name)}/decision", body)[0] == 404
    status, refused = console(f"/waiting/loan_draft/{quote(name)}/done", "")
    assert (status, refused["errors"][0]["field"]) == (400, "reference")
    assert console("/submissions", loan_id=name) == (200, {"submissions": []})


def test_the_longest_reference_there_can_be_is_found_and_marked_as_done(reports, deployed, console):
    deployed.answers = [(422, {"message": "no"})]
    row = {"loan_id": "😀" * 64, "client_id": "C", "amount": 1, "payment_id": "p" * 100}
    reports.batch({"reference": "r" * 100, "repayments": [row]})
    ((reference, loan),) = [
        (it["reference"], it["loan_id"])
        for it in console("/submissions", kind="repayment", state="REJECTED")[1]["submissions"]
    ]
    assert len(reference) == 970
    assert console(f"/submissions/repayment/{reference}")[0] == 200
    assert console("/submissions", loan_id=loan)[1]["submissions"][0]["reference"] == reference
    assert console(f"/waiting/repayment/{reference}/done", "")[0] == 200


def test_no_word_in_any_place_makes_the_console_fail(deployed, console):
    """Words from a seed, so that it fails for a reason and not by chance."""
    dice = random.Random(16)  # noqa: S311 to be the same each time
    pieces = [
        "x" * 2100,
        "é",
        "\ud800",
        "\0",
        "\n",
        "#",
        "/",
        "%",
        "%2F",
        "%ff",
        "{",
        "[",
        '"',
        "loan_draft",
        "2026-11-24",
        "-1",
    ]
    pieces += ["9" * 40, "٣", "😀", " ", *PLACES.values()]
    for _ in range(400):
        words = ["".join(dice.choices(pieces, k=dice.randint(0, 3))) for _ in range(6)]
        method, path = dice.choice(CONSOLE)
        for name in re.findall(r"{\w+}", path):
            word = dice.choice(["loan_draft", "repayment", *words])
            path = path.replace(name, quote(word, errors="surrogatepass") or "x")
        names = dice.sample(
            ["kind", "state", "loan_id", "since", "limit", "cursor", "days", "query", "status", "offset"], 4
        )
        query = dict(zip(names, words, strict=False))
        if dice.random() < 0.5:
            query |= {"kind": "loan_draft", "state": "ACCEPTED"}
        body = dice.choice(["", "{", "[" * 9000, '{"decision": "abandon"}', words[5]]) if method == "POST" else None
        assert console(path, body, **query)[0] in (200, 400, 404, 409), (path, query, body)


# --- a custom domain ------------------------------------------------------------------------------------------------


GIVEN = {"kind": "loan_draft", "reference": "L~2F1.a:b-c", "name": "themes"}


@pytest.mark.parametrize(("method", "path"), CONSOLE, ids=" ".join)
def test_every_route_answers_below_a_base_path_as_it_does_without(deployed, console, method, path):
    deployed.mock.add(responses.GET, f"{PARTNER_URL}/config/themes", json={"themes": []})
    decision = {"decision": "abandon"} if path.endswith("/decision") else {}
    body = json.dumps({**decision, "reason": "it was a test"}) if method == "POST" else None
    query = {"kind": "loan_draft", "state": "ACCEPTED"} if path == "/submissions" else {}
    status, found = console(path.format(**GIVEN), body, **query)
    assert status == (404 if "{reference}" in path and not path.endswith("/done") else 200)
    assert found.get("title") != "No such path; GET /openapi.json lists them"
    for base_path in ("/relay", "/submissions", "/kiva/v1", "/loans/loan_draft"):
        answer = console(path.format(**GIVEN), body, base_path, **query)
        assert answer[0] == status
        assert answer[1].keys() == found.keys()


@pytest.mark.parametrize("base_path", ["", "/relay", "/submissions/loan_draft"])
@pytest.mark.parametrize(
    ("loan", "escaped"), [("KIV/2026/001", "KIV~2F2026~2F001"), ("..", "~2E."), ("L 1.2_é", "L~201.2_~C3~A9")]
)
def test_a_reference_is_found_however_it_is_escaped_on_the_way(drafts, console, loan, escaped, base_path):
    drafts.batch(drafts.message(loan))
    for written in (escaped, escaped.replace("~", "%7E"), quote(escaped.replace("2", "%32"), safe="%~")):
        status, body = console(f"/submissions/loan_draft/{written}", base_path=base_path)
        assert (status, body.get("loan_id")) == (200, loan)


def test_a_reference_with_a_colon_is_found_escaped_or_not_and_one_that_is_escaped_twice_is_another(reports, console):
    reports.batch(reports.message("L/1"))
    for written in ("2026-10:L~2F1:100.50", "2026-10%3AL%7E2F1%3A100.50"):
        assert console(f"/submissions/repayment/{written}")[0] == 200
    for written in (
        "2026-10%253AL~2F1%253A100.50",
        "2026-10:L%2F1:100.50",
        "2026-10:L/1:100.50",
        "2026-10:L~2F1:100.50%20",
    ):
        assert console(f"/submissions/repayment/{written}")[0] == 404


def test_a_path_that_comes_decoded_as_sam_local_gives_it_is_found_too(reports, context):
    """`sam local start-api` decodes what API Gateway leaves as it came: aws/aws-sam-cli#771."""
    reports.batch(reports.message("L-1"))
    event = request("GET", "/submissions/repayment/x")
    event["pathParameters"]["reference"] = "2026-10:L-1:100.50"
    assert import_module("console.app").handler(event, context)["statusCode"] == 200
    event["pathParameters"]["reference"] = "a/b"
    assert import_module("console.app").handler(event, context)["statusCode"] == 404


def test_warnings_about_what_pa2_will_want_mended_are_shown(drafts, console):
    drafts.batch(drafts.message("L-1", schedule=[{"date": "2026-12-01", "principal": 99}]))
    warnings = console("/submissions/loan_draft/L-1")[1]["warnings"]
    assert "$.schedule: its principal must add up to the amount of the entreps" in warnings


def test_loans_are_kivas(deployed, console):
    deployed.loans = [{"kiva_id": "1"}]
    assert console("/loans", status="payingBack", limit="5") == (
        200,
        {"total_records": 1, "loans": [{"kiva_id": "1"}]},
    )


def test_config_lists_are_kivas_and_others_do_not_exist(deployed, console):
    themes = [{"theme_type_id": 1, "theme_type": "Green"}]
    deployed.mock.add(
        responses.GET,
        f"{PARTNER_URL}/config/themes",
        json={"as_of_date_time": "2026-09-01T08:00:00Z", "themes": themes},
    )
    assert console("/config/themes") == (200, {"as_of_date_time": "2026-09-01T08:00:00Z", "themes": themes})
    assert console("/config/secrets")[0] == 404


@pytest.mark.parametrize("path", ["/loans", "/config/themes"])
def test_a_kiva_that_cannot_be_reached_is_said_so(deployed, console, path):
    deployed.read_status = 503
    deployed.mock.add(responses.GET, re.compile(f"{PARTNER_URL}/config/.*"), status=503)
    status, body = console(path)
    assert (status, body["title"]) == (503, "Kiva cannot be reached at the moment")


def test_the_document_describes_every_route(console):
    status, document = console("/openapi.json")
    assert (status, document) == (200, json.loads((ROOT / "docs" / "openapi.json").read_text()))
    assert {"/loan-drafts", "/journal-updates", "/repayments", "/submissions", "/loans"} < set(document["paths"])


def test_another_path_is_not_found(console):
    assert console("/nothing")[0] == 404


def test_a_fault_of_ours_is_a_problem_detail_without_its_text(deployed, console, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("canary")

    monkeypatch.setattr(runtime.ledger(), "read", fail)
    status, body = console("/submissions/loan_draft/L-1")
    assert (status, body["status"]) == (503, 503)
    out = capsys.readouterr().out
    assert "RuntimeError at test_console.py" in out
    assert "canary" not in out + json.dumps(body)


def test_a_search_for_a_name_is_not_logged(deployed, console, capsys):
    console("/loans", query="Canary Akinyi")
    deployed.read_status = 500
    _, body = console("/loans", query="Canary Akinyi")
    out = capsys.readouterr().out
    assert "fetched a Kiva token" in out
    assert "Akinyi" not in out + json.dumps(body)


def test_kinds_are_called_as_kivas_scopes():
    assert [kind.scope for kind in Kind] == ["create:loan_draft", "create:journal_update", "create:repayment"]
