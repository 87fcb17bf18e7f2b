import pytest

JOURNALS = [
    {"internal_loan_id": "L-70011-1", "internal_client_id": "C-18011", "subject": "A second stall", "body": "Rented."},
    {"internal_loan_id": "L-70018-1", "subject": "Good rains", "body": "Early.", "mood": "unknown key"},
]


@pytest.mark.parametrize("path", ["/v3/partner/9001/journals", "/v3/partners/9001/journals"])
@pytest.mark.parametrize("body", [{"journals": JOURNALS}, JOURNALS], ids=["wrapper", "bare list"])
def test_journals_come_by_either_path_and_in_either_shape(kiva, path, body):
    answer = kiva.http.post(path, json=body, headers=kiva.headers)
    assert answer.status_code == 200
    archive_id = answer.json()["archive_id"]
    assert isinstance(archive_id, str)
    assert answer.json() == {
        "code": "api.success",
        "message": "2 journal(s) archived",
        "archive_id": archive_id,
        "confirm_url": f"http://testserver/pa2/journals/confirm/{archive_id}",
    }
    assert [kept["journal"] for kept in kiva.seen("journals")["data"]] == JOURNALS


def test_the_other_endpoints_have_one_path_only(kiva):
    assert kiva.http.post("/v3/partners/9001/loan_draft", json={}, headers=kiva.headers).status_code == 404


def test_a_repeated_call_is_another_archive_and_confirming_one_leaves_the_other(kiva):
    first, second = (kiva.post("journals", JOURNALS[:1]).json()["archive_id"] for _ in range(2))
    assert first != second
    assert kiva.http.post(f"/_sandbox/journals/{second}/confirm").status_code == 200
    confirmed = {kept["archive_id"]: kept["confirmed"] for kept in kiva.seen("journals")["data"]}
    assert confirmed == {first: False, second: True}
    assert kiva.http.post("/_sandbox/journals/1/confirm").status_code == 404


@pytest.mark.parametrize("field", ["internal_loan_id", "subject", "body"])
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "null"])
def test_a_journal_without_a_required_field_is_refused_with_all_its_call(kiva, field, missing):
    broken = {**JOURNALS[1], field: None}
    if missing:
        del broken[field]
    refused = kiva.post("journals", {"journals": [JOURNALS[0], broken]})
    assert refused.status_code == 400
    assert refused.json() == {"code": "api.error", "message": f"journals.1.{field} is required"}
    assert kiva.seen("journals")["total"] == 0


@pytest.mark.parametrize("body", [[], {"journals": []}, {}])
def test_no_journals_are_refused(kiva, body):
    refused = kiva.post("journals", body)
    assert (refused.status_code, refused.json()["code"]) == (400, "api.error")
