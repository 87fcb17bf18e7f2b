"""From a producer's queue to Kiva."""

import time

import pytest

from cli.dead_letters import redrive
from cli.stacks import KINDS, local_stack
from e2e.world import loans, text
from images import png
from local.stack import REGION

NOT_VALID = {
    "loan_draft": ({"group_name": "Tumaini"}, "$.group_name: must be absent"),
    "journal_update": ({"journals": []}, "$.journals: must be"),
    "repayment": ({"period": "2026-13"}, "$.period: must be a month"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_submitted_and_its_reference_answers_what_kiva_made_of_it(world, kind):
    message = world.message(kind, reference=f"queue-{kind}")

    world.put(kind, message)

    (loan,) = loans(kind, message)
    reference = f"queue-{kind}" if kind == "loan_draft" else f"queue-{kind}:{loan}"
    submission = world.ended(kind, reference)
    assert submission["state"] == "ACCEPTED"
    assert submission["kiva"]
    assert submission["attempts"] == 1
    assert len(world.at_kiva(kind, loan)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_invalid_neighbour_is_laid_aside_with_its_reason_and_the_others_are_submitted(world, kind):
    first, last = world.message(kind, reference=f"first-{kind}"), world.message(kind, reference=f"last-{kind}")
    changes, reason = NOT_VALID[kind]
    invalid = world.message(kind) | changes

    _, message_id, _ = world.put(kind, first, invalid, last)

    letter = world.dead_letter(kind, message_id)
    assert letter["Reason"].startswith(reason)
    assert letter["Kind"] == kind
    for name, message in (("first", first), ("last", last)):
        (loan,) = loans(kind, message)
        reference = f"{name}-{kind}" if kind == "loan_draft" else f"{name}-{kind}:{loan}"
        assert world.ended(kind, reference)["state"] == "ACCEPTED"
    assert not any(world.at_kiva(kind, loan) for loan in loans(kind, invalid))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_settled_already_is_not_sent_again_however_often_it_comes(world, kind):
    message = world.message(kind)
    reference = world.post(kind, message, Prefer="wait").json()["reference"]

    world.put(kind, message, message)

    world.until(lambda: len(world.log_lines(reference)) > 1, f"{kind} {reference} to come out of its queue")
    assert world.ended(kind, reference)["attempts"] == 1
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


def test_other_content_under_a_known_reference_is_laid_aside(world):
    draft = world.draft(reference="queue-conflict")
    world.put("loan_draft", draft)
    world.ended("loan_draft", "queue-conflict")

    (message_id,) = world.put("loan_draft", draft | {"loanuse": "to buy a bicycle."})

    assert (
        "queue-conflict: its reference belongs to other content"
        in world.dead_letter("loan_draft", message_id)["Reason"]
    )
    (body,) = world.at_kiva("loan_draft", loans("loan_draft", draft)[0])
    assert body["loanuse"] == draft["loanuse"]


def test_a_message_of_one_mebibyte_is_laid_aside_and_its_body_is_kept_in_the_bucket(world):
    message = world.journals()
    (journal,) = message["journals"]
    journal["body"] = ""
    journal["body"] = "x" * (2**20 - len(text(message)))
    body = text(message)

    (message_id,) = world.put("journal_update", body)

    letter = world.dead_letter("journal_update", message_id)
    assert letter["Reason"].startswith("$: must be at most 1000000 bytes")
    assert world.kept_body(letter) == body
    assert world.at_kiva("journal_update", journal["internal_loan_id"]) == []


def test_a_repayment_of_a_loan_that_kiva_does_not_know_is_rejected_and_its_neighbours_are_accepted(world):
    message = world.repayments(2, reference="with-stranger")
    message["repayments"].insert(1, {"loan_id": "L-99999-9", "client_id": "C-9", "amount": 5})

    world.put("repayment", message)

    states = [world.ended("repayment", f"with-stranger:{loan}")["state"] for loan in loans("repayment", message)]
    assert states == ["ACCEPTED", "REJECTED", "ACCEPTED"]
    assert world.ended("repayment", "with-stranger:L-99999-9")["problems"][0]["code"] == "repayment.loan_not_found"


def test_a_message_that_must_wait_comes_again_long_before_its_queue_would_give_it_back(world):
    draft = world.draft(reference="must-wait")
    world.post("loan_draft", draft, Prefer="wait")
    world.note("loan_draft", "must-wait", "SENDING", time.time() + 600)  # somebody else is sending it right now
    before = len(world.log_lines("must-wait"))

    world.put("loan_draft", draft)

    # Its first wait is half a minute at most; without one of its own it would be the queue's, half an hour.
    world.until(lambda: len(world.log_lines("must-wait")) > before, "the message to be received")
    world.note("loan_draft", "must-wait", "ACCEPTED")
    world.until(lambda: len(world.log_lines("must-wait")) > before + 1, "the message to come again")
    verdicts = [line.partition('"verdict":"')[2].partition('"')[0] for line in world.log_lines("must-wait")[before:]]
    assert verdicts == ["AGAIN", "STANDS"]
    assert len(world.at_kiva("loan_draft", loans("loan_draft", draft)[0])) == 1


def test_a_dead_letter_is_submitted_after_its_cause_is_mended_and_it_is_put_back(world):
    key = "photos/e2e/late.png"
    draft = world.draft(reference="photo-too-late", photo={"s3_key": key})
    (message_id,) = world.put("loan_draft", draft)
    reason = world.dead_letter("loan_draft", message_id)["Reason"]
    assert "names no object of the payload bucket" in reason
    world.lay_into_the_bucket(key, png(rest=bytes(100)))

    stack = local_stack(world.stack.name, world.stack.endpoint, world.stack.api, REGION)
    letters = list(redrive(stack, "loan_draft"))

    assert reason in [letter.reason for letter in letters if not letter.left]
    assert world.ended("loan_draft", "photo-too-late")["state"] == "ACCEPTED"
    assert len(world.at_kiva("loan_draft", loans("loan_draft", draft)[0])) == 1
