import json
import re

import pytest
import responses

from fakes import PARTNER_URL
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


def test_a_corrected_amount_of_a_month_replaces_the_earlier_one(reports, console):
    for amount in (100, 120):
        row = {"loan_id": "L-1", "client_id": "C", "amount": amount}
        reports.batch({"period": "2026-10", "repayments": [row]})
    reports.batch({"period": "2026-11", "repayments": [row]})
    assert console("/submissions/repayment/2026-10:L-1:120.00")[1]["replaces"] == ["2026-10:L-1:100.00"]
    assert console("/submissions/repayment/2026-10:L-1:100.00")[1]["replaced_by"] == ["2026-10:L-1:120.00"]
    assert "replaces" not in console("/submissions/repayment/2026-11:L-1:120.00")[1]


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
