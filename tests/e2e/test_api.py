"""Over the API to Kiva."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from cli.stacks import KINDS
from e2e.world import NAME, loans


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_taken_in_and_its_location_tells_the_outcome(world, kind):
    message = world.message(kind)

    response = world.post(kind, message)

    assert response.status_code == 202
    location = world.location_of(response)
    assert location == (kind, response.json()["reference"])
    submission = world.ended(*location)
    assert submission["state"] == "ACCEPTED"
    assert submission["next_step"]
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_who_prefers_to_wait_gets_the_outcome_at_once(world, kind):
    message = world.message(kind)

    response = world.post(kind, message, prefer="wait=20")

    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait"
    assert response.json()["state"] == "ACCEPTED"
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


@pytest.mark.parametrize("kind", ["journal_update", "repayment"])
def test_the_location_of_a_list_tells_the_outcome_of_each_of_it(world, kind):
    message = {"journal_update": world.journals, "repayment": world.repayments}[kind](3)

    response = world.post(kind, message)

    assert response.status_code == 202
    answer = world.ended(*world.location_of(response))
    assert answer["states"] == {"ACCEPTED": 3}
    assert [each["loan_id"] for each in answer["submissions"]] == loans(kind, message)


@pytest.mark.parametrize("prefer", ["", "wait"])
def test_a_repeated_message_is_answered_with_what_it_has_come_to(world, prefer):
    draft = world.draft()
    first = world.post("loan_draft", draft, Prefer="wait").json()

    again = world.post("loan_draft", draft, Prefer=prefer)

    assert again.status_code == 200
    assert again.json()["kiva"] == first["kiva"]
    assert len(world.at_kiva("loan_draft", first["loan_id"])) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_message_eight_times_at_once_reaches_kiva_once(world, kind):
    message = world.message(kind)

    with ThreadPoolExecutor(8) as producers:
        responses = list(producers.map(lambda _: world.post(kind, message, Prefer="wait"), range(8)))

    assert {response.status_code for response in responses} <= {200, 202}
    (reference,) = {response.json()["reference"] for response in responses}
    assert world.ended(kind, reference)["state"] == "ACCEPTED"
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_other_content_under_a_known_reference_is_a_conflict(world, kind):
    message = world.message(kind, reference=f"api-conflict-{kind}")
    reference = world.post(kind, message, Prefer="wait").json()["reference"]
    other = {
        "loan_draft": lambda: message | {"loanuse": "to buy a bicycle."},
        "journal_update": lambda: message | {"journals": [message["journals"][0] | {"subject": "Another"}]},
        "repayment": lambda: message | {"repayments": [message["repayments"][0] | {"amount": 1}]},
    }[kind]()

    response = world.post(kind, other)

    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["references"] == [reference]
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


def test_a_submission_is_found_by_kind_and_state(world):
    reference = world.post("loan_draft", world.draft(), Prefer="wait").json()["reference"]

    page = world.stack.call("GET", "/submissions?kind=loan_draft&state=ACCEPTED&limit=1").json()

    assert [each["reference"] for each in page["submissions"]] == [reference]


def test_a_draft_that_a_person_published_is_among_the_loans(world):
    submission = world.post("loan_draft", world.draft(), Prefer="wait").json()
    world.publish(submission["kiva"]["loan_draft_uuid"])

    page = world.stack.call("GET", f"/loans?query={submission['loan_id']}&status=fundRaising").json()

    assert [loan["internal_loan_id"] for loan in page["loans"]] == [submission["loan_id"]]
    assert page["loans"][0]["name"] == NAME


@pytest.mark.parametrize("name", ["activities", "locales", "themes", "locations"])
def test_kivas_lists_are_there_to_read(world, name):
    response = world.stack.call("GET", f"/config/{name}")

    assert response.status_code == 200
    assert response.json()[name]


def test_the_api_describes_itself(world):
    document = world.stack.call("GET", "/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    assert {"/loan-drafts", "/journal-updates", "/repayments"} < document["paths"].keys()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/loan-drafts"),
        ("POST", "/journal-updates"),
        ("POST", "/repayments"),
        ("GET", "/submissions?kind=loan_draft&state=ACCEPTED"),
        ("POST", "/submissions/loan_draft/L-1/decision"),
        ("GET", "/loans"),
        ("GET", "/openapi.json"),
    ],
)
def test_a_request_without_a_signature_is_refused(world, method, path):
    calls = world.sandbox("counters")["calls"]
    with requests.Session() as session:
        session.trust_env = False

        response = session.request(method, world.stack.api + path, json={}, timeout=30)

    assert response.status_code == 403
    assert world.sandbox("counters")["calls"] == calls
