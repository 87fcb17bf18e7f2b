import uuid

import pytest


def test_a_draft_gets_a_uuid_and_is_kept_whole_unknown_keys_included(kiva, individual, clock):
    individual["schedule_parameters"] = {"annualRate": 12.5}
    answer = kiva.post("loan_draft", individual)
    assert answer.status_code == 200
    assert answer.json()["code"] == "api.success"
    assert uuid.UUID(answer.json()["loan_draft_uuid"]).version == 4
    seen = kiva.seen("drafts")
    assert seen["total"] == 1
    assert seen["data"][0] == {
        "loan_draft_uuid": answer.json()["loan_draft_uuid"],
        "received_at": clock().isoformat(timespec="milliseconds"),
        "published": False,
        "pa2_messages": [],
        "body": individual,
    }


def test_a_repeated_draft_is_a_second_draft(kiva, individual):
    uuids = {kiva.post("loan_draft", individual).json()["loan_draft_uuid"] for _ in range(2)}
    assert len(uuids) == 2
    assert kiva.seen("drafts")["total"] == 2


def test_an_empty_draft_is_accepted_and_left_to_pa2(kiva):
    assert kiva.post("loan_draft", {}).status_code == 200
    assert "entreps is missing" in kiva.seen("drafts")["data"][0]["pa2_messages"]


def test_a_group_without_borrowers_is_refused_and_not_kept(kiva, group):
    refused = kiva.post("loan_draft", {**group, "entreps": []})
    assert refused.status_code == 400
    assert refused.json()["code"] == "api.error"
    assert "entreps" in refused.json()["message"]
    assert kiva.seen("drafts")["total"] == 0


BAD_JSON = {
    "not JSON": b"loan",
    "cut off": b'{"location": "Kis',
    "NaN": b'{"entreps": [{"amount": NaN}]}',
    "a number beyond floats": b'{"entreps": [{"amount": 1e400}]}',
    "NaN under a key nobody knows": b'{"later": NaN}',
    "a number beyond floats under such a key": b'{"later": -1e400}',
    "not UTF-8": b'{"location": "S\xe3o"}',
    "nested ten thousand deep": b"[" * 10_000,
    "a list": b"[]",
    "null": b"null",
    "a word for a list": b'{"entreps": "Akinyi"}',
    "a word for an amount": b'{"entreps": [{"amount": "much"}]}',
    "nothing": b"",
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_what_cannot_be_read_as_a_draft_gets_springs_400_and_is_not_kept(kiva, body):
    answer = kiva.http.post(
        f"{kiva.base}/loan_draft", content=body, headers={**kiva.headers, "Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json() == {
        "timestamp": "2026-09-01T08:00:00.000+00:00",
        "status": 400,
        "error": "Bad Request",
        "message": "JSON parse error",
        "path": "/v3/partner/9001/loan_draft",
    }
    assert kiva.seen("drafts")["total"] == 0


def test_json_sent_as_something_else_is_415(kiva):
    answer = kiva.http.post(
        f"{kiva.base}/loan_draft", content=b"{}", headers={**kiva.headers, "Content-Type": "text/plain"}
    )
    assert (answer.status_code, answer.json()["error"]) == (415, "Unsupported Media Type")


def test_half_a_surrogate_pair_does_not_break_the_view(kiva):
    answer = kiva.http.post(
        f"{kiva.base}/loan_draft",
        content=b'{"description": "half \\ud83d"}',
        headers={**kiva.headers, "Content-Type": "application/json; charset=utf-8"},
    )
    assert answer.status_code == 200
    assert kiva.seen("drafts")["data"][0]["body"] == {"description": "half \ud83d"}


def test_a_published_individual_becomes_a_fundraising_loan_under_its_borrowers_ids(kiva, individual):
    draft = kiva.post("loan_draft", individual).json()["loan_draft_uuid"]
    assert kiva.http.post(f"/_sandbox/drafts/{draft}/publish").status_code == 200
    found = kiva.get("loans", query="L-77310-2").json()
    assert found["total_records"] == 1
    loan = found["data"][0]
    assert (loan["status"], loan["internal_client_id"], loan["uuid"]) == ("fundRaising", "C-20418", draft)
    assert (loan["name"], loan["borrower_count"], loan["loan_local_price"]) == ("Akinyi", 1, "60000.00")
    assert kiva.seen("drafts")["data"][0]["published"] is True


def test_a_published_group_becomes_a_loan_under_the_groups_ids(kiva, group):
    draft = kiva.post("loan_draft", group).json()["loan_draft_uuid"]
    kiva.http.post(f"/_sandbox/drafts/{draft}/publish")
    loan = kiva.get("loans", query="GL-0310-1").json()["data"][0]
    assert (loan["internal_client_id"], loan["name"], loan["borrower_count"]) == ("G-0310", "Horta Nova", 2)
    assert kiva.get("loans", query="GL-0310-1-A").json()["total_records"] == 0


def test_a_draft_is_published_once_and_only_when_it_exists(kiva, individual):
    draft = kiva.post("loan_draft", individual).json()["loan_draft_uuid"]
    kiva.http.post(f"/_sandbox/drafts/{draft}/publish")
    assert kiva.http.post(f"/_sandbox/drafts/{draft}/publish").status_code == 409
    assert kiva.http.post(f"/_sandbox/drafts/{uuid.uuid4()}/publish").status_code == 404
    assert kiva.seen("loans")["total"] == 501


@pytest.mark.parametrize("lacking", [{"entreps": []}, {"currency": None}])
def test_a_draft_without_a_loan_id_or_a_price_cannot_be_published(kiva, individual, lacking):
    draft = kiva.post("loan_draft", {**individual, **lacking}).json()["loan_draft_uuid"]
    assert kiva.http.post(f"/_sandbox/drafts/{draft}/publish").status_code == 409
    assert kiva.seen("loans")["total"] == 500


@pytest.mark.parametrize("field", ["amount", "principal", "interest"])
def test_an_amount_beyond_all_numbers_is_refused_also_as_text(kiva, individual, field, no_amount):
    (individual["entreps"] if field == "amount" else individual["schedule"])[0][field] = no_amount
    assert kiva.post("loan_draft", individual).status_code == 400
    assert kiva.seen("drafts")["total"] == 0
