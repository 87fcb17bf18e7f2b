"""GET loans, GET config, and what only the sandbox shows."""

import pytest

from kiva_sandbox.data import portfolio


def test_loans_come_twenty_at_a_time_unless_asked_otherwise(kiva):
    first = kiva.get("loans").json()
    assert first["total_records"] == 500
    assert first["data"] == portfolio()[:20]


def test_paging_to_the_end_meets_every_loan_once(kiva):
    ids = [
        loan["kiva_id"]
        for offset in range(0, 600, 150)
        for loan in kiva.get("loans", offset=offset, limit=150).json()["data"]
    ]
    assert ids == [loan["kiva_id"] for loan in portfolio()]


def test_limit_zero_asks_for_the_total_alone(kiva):
    assert kiva.get("loans", limit=0).json() == {"total_records": 500, "data": []}


@pytest.mark.parametrize("query", [{"limit": "many"}, {"limit": -1}, {"offset": -1}])
def test_paging_that_is_no_number_gets_springs_400(kiva, query):
    answer = kiva.get("loans", **query)
    assert (answer.status_code, answer.json()["path"]) == (400, "/v3/partner/9001/loans")


def test_loans_are_filtered_by_one_status_written_exactly(kiva):
    found = kiva.get("loans", status="defaulted", limit=100).json()
    assert found["total_records"] == len(found["data"]) == 30
    assert {loan["status"] for loan in found["data"]} == {"defaulted"}
    assert kiva.get("loans", status="Defaulted").json()["total_records"] == 0


@pytest.mark.parametrize("query", ["L-70011-1", "C-18011", "2990011", "c-18011"])
def test_an_id_finds_its_one_loan(kiva, query):
    assert [loan["kiva_id"] for loan in kiva.get("loans", query=query).json()["data"]] == ["2990011"]


def test_part_of_a_name_finds_all_who_bear_it_in_any_script_and_case(kiva):
    found = kiva.get("loans", query="заРИ", limit=500).json()
    assert found["total_records"] > 0
    assert {loan["name"] for loan in found["data"]} == {"Зарина"}


def test_query_and_status_narrow_each_other(kiva):
    assert kiva.get("loans", query="L-70011-1", status="payingBack").json()["total_records"] == 1
    assert kiva.get("loans", query="L-70011-1", status="ended").json()["total_records"] == 0


def test_config_lists_stand_in_kivas_envelope(kiva):
    locations = kiva.get("config/locations").json()
    assert {"country": "Kenya", "location": "Kisumu", "full_name": "Kisumu: Kenya"} in locations["locations"]
    assert locations["as_of_date_time"] == "2026-09-01T08:00:00Z"
    assert locations["code"] == "api.success"
    assert locations["message"] == f"Found {len(locations['locations'])} value(s) for configuration 'locations'"
    assert {"theme_type_id": 48, "theme_type": "General"} in kiva.get("config/themes").json()["themes"]
    assert {"activity_id": 61, "activity": "Food Stall"} in kiva.get("config/activities").json()["activities"]


def test_locales_pair_every_currency_with_every_language(kiva):
    locales = kiva.get("config/locales").json()["locales"]
    pairs = {(row["currency"], row["language_id"]) for row in locales}
    currencies, languages = ({pair[n] for pair in pairs} for n in (0, 1))
    assert len(locales) == len(pairs) == len(currencies) * len(languages)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3/partner/9001/nothing", 404),
        ("GET", "/v3/partner/9001/config/nothing", 404),
        ("GET", "/v3/partner/9001/loans/", 404),
        ("GET", "/v3/partner/9001/loan_draft", 405),
        ("GET", "/oauth/token", 405),
        ("GET", "/_sandbox/nothing", 404),
        ("GET", "/docs", 404),
    ],
)
def test_what_is_not_served_gets_springs_body(kiva, method, path, status):
    answer = kiva.http.request(method, path, headers=kiva.headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["timestamp", "status", "error", "message", "path"]
    assert (answer.json()["status"], answer.json()["path"]) == (status, path)


def test_what_breaks_inside_gets_springs_500(kiva, monkeypatch):
    monkeypatch.setattr("kiva_sandbox.state.State.find_loans", lambda *_: 1 / 0)
    answer = kiva.get("loans")
    assert (answer.status_code, answer.json()["error"]) == (500, "Internal Server Error")


def test_every_call_is_counted_whether_allowed_or_not(http, form, kiva):
    http.post("/oauth/token", data={**form, "client_secret": "wrong"})
    kiva.get("loans")
    kiva.get("config/themes")
    kiva.get("config/locales")
    kiva.post("loan_draft", {})
    kiva.post("repayments", {})
    http.post("/v3/partner/9001/journals")
    assert kiva.seen("counters") == {
        "token_requests": 2,
        "calls": {"loan_draft": 1, "journals": 1, "repayments": 1, "loans": 1, "config": 2},
    }


def test_reset_forgets_what_came_in_and_keeps_tokens_valid(kiva, individual):
    draft = kiva.post("loan_draft", individual).json()["loan_draft_uuid"]
    kiva.http.post(f"/_sandbox/drafts/{draft}/publish")
    kiva.post("journals", [{"internal_loan_id": "L-70011-1", "subject": "s", "body": "b"}])
    kiva.post("repayments", {"repayments": [{"loan_id": "L-70011-1", "amount": 500}]})
    assert kiva.http.post("/_sandbox/reset").status_code == 200
    assert {name: kiva.seen(name)["total"] for name in ("drafts", "journals", "uploads", "loans")} == {
        "drafts": 0,
        "journals": 0,
        "uploads": 0,
        "loans": 500,
    }
    assert set(kiva.seen("counters")["calls"].values()) == {0}
    again = kiva.post("repayments", {"repayments": [{"loan_id": "L-70011-1", "amount": 400}]})
    assert (again.status_code, again.json()["problems"]) == (200, [])
