"""Outcomes that nobody knows: what a person decides, and what Kiva's loans prove."""

import time

import pytest

from cli.stacks import KINDS
from e2e.world import loans


def several(world, kind):
    """A message that goes to Kiva in one call: three submissions, where a call may hold so many."""
    return {
        "loan_draft": world.draft,
        "journal_update": lambda: world.journals(3),
        "repayment": lambda: world.repayments(3),
    }[kind]()


def unknown_and_kept(world, kind, message):
    """Let a function die between claim and POST, and the message come back; gives the references."""
    references = world.die_before_sending(kind, message)
    world.put(kind, message)
    world.until(lambda: len(world.kept()) == len(references), "the message to be received and kept")
    assert {world.ended(kind, reference)["state"] for reference in references} == {"UNKNOWN"}
    return references


@pytest.mark.parametrize("kind", KINDS)
def test_what_kiva_has_not_is_sent_again_by_a_decision_about_one_of_its_call_and_reaches_kiva_once(world, kind):
    message = several(world, kind)
    references = unknown_and_kept(world, kind, message)

    response = world.decide(kind, references[0], decision="send-again", reason="not in PA2")

    assert response.status_code == 200
    forgotten = world.housekeeping()["forgotten"]  # some already, where the function is the quicker of the two
    for reference, loan in zip(references, loans(kind, message), strict=True):
        submission = world.ended(kind, reference)
        assert submission["state"] == "ACCEPTED"
        assert submission["attempts"] == 2
        (decision,) = submission["decisions"]
        assert decision["decision"] == "send-again"
        assert decision["reason"] == "not in PA2"
        assert decision["by"].startswith("arn:aws:")
        assert len(world.at_kiva(kind, loan)) == 1
    assert forgotten + world.housekeeping()["forgotten"] == len(references)
    assert world.kept() == []


def test_what_is_given_up_is_forgotten(world):
    (reference,) = unknown_and_kept(world, "loan_draft", world.draft())

    assert world.decide("loan_draft", reference, decision="abandon", reason="withdrawn").json()["state"] == "ABANDONED"
    world.housekeeping()

    assert world.kept() == []


def test_nothing_is_decided_while_its_sender_or_a_gateway_may_still_be_at_work(world):
    world.post("loan_draft", world.draft(reference="too-early"), Prefer="wait")
    world.die_while_sending("loan_draft", "too-early", lease_until=time.time() - 60)
    abandon = {"decision": "abandon", "reason": "the borrower has withdrawn"}

    still_sending = world.decide("loan_draft", "too-early", **abandon)
    world.housekeeping()
    settling = world.decide("loan_draft", "too-early", **abandon)

    assert (still_sending.status_code, settling.status_code) == (409, 409)
    assert settling.json()["type"].endswith("not-decidable")
    assert 0 < int(settling.headers["Retry-After"]) <= 900
    world.note("loan_draft", "too-early", "UNKNOWN")
    assert world.decide("loan_draft", "too-early", **abandon).json()["state"] == "ABANDONED"


def test_what_somebody_finds_in_pa2_is_accepted_under_kivas_reference(world):
    draft = world.draft(reference="found-in-pa2")
    uuid = world.post("loan_draft", draft, Prefer="wait").json()["kiva"]["loan_draft_uuid"]
    world.die_while_sending("loan_draft", "found-in-pa2")
    world.housekeeping()

    response = world.decide(
        "loan_draft", "found-in-pa2", decision="accepted", reason="PA2 > Loans > Drafts", kiva_reference=uuid
    )

    assert response.status_code == 200
    again = world.post("loan_draft", draft, Prefer="wait").json()
    assert (again["state"], again["kiva"]) == ("ACCEPTED", {"loan_draft_uuid": uuid})
    assert again["decisions"][0]["kiva_reference"] == uuid
    assert len(world.at_kiva("loan_draft", loans("loan_draft", draft)[0])) == 1


def test_a_draft_that_somebody_has_published_proves_itself(world):
    draft = world.draft(reference="proves-itself")
    world.publish(world.post("loan_draft", draft, Prefer="wait").json()["kiva"]["loan_draft_uuid"])
    world.die_while_sending("loan_draft", "proves-itself")

    world.housekeeping()

    submission = world.ended("loan_draft", "proves-itself")
    assert submission["state"] == "ACCEPTED"
    assert submission["kiva"].keys() == {"kiva_id", "loan_uuid"}
    assert "decisions" not in submission


def test_a_decision_without_a_reason_or_about_nothing_is_refused(world):
    assert world.decide("loan_draft", "no-such-draft", decision="abandon", reason="a reason").status_code == 404
    response = world.decide("loan_draft", "no-such-draft", decision="abandon")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "$.reason"
