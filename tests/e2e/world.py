"""The running system as its users see it: a producer's queues and API, the dead letters, and what arrived at Kiva."""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import requests

from kiva_partner.ledger import Ledger
from kiva_partner.messages import Kind, parse
from kiva_partner.settings import AmountMode, PartnerRules
from local.stack import Stack, logs

SCOPE = "sandbox#9001"
"""What the ledger's keys begin with."""
RULES = PartnerRules(needs_client_id=True, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=5 * 2**20)
"""Those of the deployed stack."""
LONG_AGO = 1.0

PATHS = {"loan_draft": "/loan-drafts", "journal_update": "/journal-updates", "repayment": "/repayments"}
FINAL = ("ACCEPTED", "REJECTED", "UNKNOWN", "ABANDONED")
WAIT_SECONDS = 45
"""A multiple of what anything here takes; nothing is proved by its length."""

NAME = "Zebedea"
SURNAME = "Quillfeather"
"""Every borrower in these tests is called so: nothing but Kiva may ever see it."""


@dataclass
class World:
    """One stack for all tests; each test takes loans of its own."""

    stack: Stack
    taken: Any = field(default_factory=lambda: itertools.count(1))
    tokens_of_checks: int = 0
    """What `GET /check` fetched, which asks for a token of its own where the one that serves is older than a minute."""

    # --- content ---

    def number(self) -> int:
        """A number that no other test has."""
        return next(self.taken)

    def draft(self, **changes: Any) -> dict[str, Any]:
        """A complete individual draft for a new loan."""
        number = self.number()
        return {
            "activity_id": 61,
            "theme_type_id": 48,
            "description_language_id": 1,
            "location": "Kisumu: Kenya",
            "currency": "KES",
            "loanuse": "to restock a food stall.",
            "description": f"{NAME} has run a food stall beside the bus park for six years.",
            "client_waiver_signed": True,
            "disburse_time": "2026-12-01",
            "entreps": [
                {
                    "client_id": f"E2E-C-{number}",
                    "loan_id": f"E2E-{number}",
                    "first_name": NAME,
                    "last_name": SURNAME,
                    "gender": "female",
                    "amount": 600,
                }
            ],
            "schedule": [{"date": "2027-01-15", "principal": 600}],
            **changes,
        }

    def journals(self, count: int = 1, **changes: Any) -> dict[str, Any]:
        """Journals for as many loans of the sandbox's portfolio."""
        return {"journals": [self._journal(self.number()) for _ in range(count)], **changes}

    def _journal(self, number: int) -> dict[str, Any]:
        return {
            "internal_loan_id": f"L-{70_000 + number}-1",
            "internal_client_id": f"C-{18_000 + number}",
            "subject": f"Visit {number}",
            "body": f"{NAME} has paid off her sewing machine.",
        }

    def repayments(self, count: int = 1, **changes: Any) -> dict[str, Any]:
        """Repayments to as many loans of the sandbox's portfolio that are paying back."""
        rows = []
        while len(rows) < count:
            number = self.number()
            # Every other status sits elsewhere in the portfolio's rhythm of fifty.
            if number % 50 in (1, 3, 4, 6, 7, 9, 10, 11, 12):
                rows.append(
                    {"loan_id": f"L-{70_000 + number}-1", "client_id": f"C-{18_000 + number}", "amount": 1250.5}
                )
        return {"period": "2026-10", "repayments": rows, **changes}

    def message(self, kind: str, **changes: Any) -> dict[str, Any]:
        """A valid message of a kind."""
        return {"loan_draft": self.draft, "journal_update": self.journals, "repayment": self.repayments}[kind](
            **changes
        )

    # --- ways in ---

    def put(self, kind: str, *messages: dict[str, Any] | str) -> list[str]:
        """Put messages into a queue, all in one go; gives their ids."""
        sqs = self.stack.client("sqs")
        ids = []
        for some in itertools.batched(messages, 10):
            entries = [{"Id": str(index), "MessageBody": text(message)} for index, message in enumerate(some)]
            answer = sqs.send_message_batch(QueueUrl=self.stack.queues[kind], Entries=entries)
            assert not answer.get("Failed")
            ids += [sent["MessageId"] for sent in answer["Successful"]]
        return ids

    def location_of(self, response: requests.Response) -> tuple[str, str]:
        """Kind and reference of the submission that Location leads to, followed as any HTTP client follows it."""
        url = urljoin(response.url, response.headers["Location"])
        kind, reference = url.removeprefix(f"{self.stack.api}/submissions/").split("/")
        return kind, reference

    def post(self, kind: str, message: dict[str, Any] | str | bytes, **headers: str) -> requests.Response:
        """Send a message to the API; header names are written with underscores."""
        body = message if isinstance(message, bytes) else text(message).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.stack.call("POST", PATHS[kind], body, {"Content-Type": "application/json"} | named)

    def decide(self, kind: str, reference: str, **decision: str) -> requests.Response:
        """Decide about a submission whose outcome nobody knows."""
        path = f"/submissions/{kind}/{quote(reference, safe=':')}/decision"
        return self.stack.call("POST", path, json.dumps(decision), {"Content-Type": "application/json"})

    def housekeeping(self) -> dict[str, Any]:
        """Call housekeeping as its schedule does; gives what it says it has done."""
        function = self.stack.physical_id("HousekeepingFunction")
        answer = self.stack.client("lambda").invoke(FunctionName=function, Payload=b"{}")
        assert "FunctionError" not in answer
        done: dict[str, Any] = json.loads(answer["Payload"].read())
        return done

    def digest(self) -> str:
        """Have the digest published, as its schedule does; gives its text."""
        function = self.stack.physical_id("OutcomesFunction")
        answer = self.stack.client("lambda").invoke(
            FunctionName=function, Payload=b'{"detail-type": "Scheduled Event"}'
        )
        assert "FunctionError" not in answer
        text: str = json.loads(answer["Payload"].read())["digest"]
        return text

    def lay_into_the_bucket(self, key: str, content: bytes) -> None:
        """Store a photo as a producer does that sends its message by the queue."""
        bucket = self.stack.physical_id("PayloadBucket")
        self.stack.client("s3").put_object(Bucket=bucket, Key=key, Body=content)

    # --- what became of it ---

    def ended(self, kind: str, reference: str) -> dict[str, Any]:
        """The submission, or the message of several, once nothing more happens to it by itself."""

        def look() -> dict[str, Any] | None:
            response = self.stack.call("GET", f"/submissions/{kind}/{quote(reference, safe=':')}")
            if response.status_code != requests.codes.ok:
                return None
            answer: dict[str, Any] = response.json()
            states = answer.get("states") or {answer["state"]: 1}
            return answer if all(state in FINAL for state in states) else None

        return self.until(look, f"{kind} {reference} to end")

    def dead_letter(self, kind: str, message_id: str) -> dict[str, str]:
        """The dead letter that a message became: its body and its attributes."""
        found: dict[str, str] | None = self.until(lambda: self.dead_letters(kind).get(message_id), "a dead letter")
        assert found
        return found

    def dead_letters(self, kind: str) -> dict[str, dict[str, str]]:
        """All dead letters of a kind by the id of the message that each was; they stay where they are."""
        sqs, letters = self.stack.client("sqs"), {}
        read = {
            "QueueUrl": self.stack.dead_letter_queues[kind],
            "MaxNumberOfMessages": 10,
            "MessageAttributeNames": ["All"],
            "VisibilityTimeout": 60,
        }
        handles = []
        while received := sqs.receive_message(**read).get("Messages"):
            for letter in received:
                attributes = {name: each["StringValue"] for name, each in letter["MessageAttributes"].items()}
                letters[attributes["SourceMessageId"]] = attributes | {"body": letter["Body"]}
                handles.append(letter["ReceiptHandle"])
        for handle in handles:
            sqs.change_message_visibility(QueueUrl=read["QueueUrl"], ReceiptHandle=handle, VisibilityTimeout=0)
        return letters

    def kept_body(self, letter: dict[str, str]) -> str:
        """The body of a dead letter that was too large for its queue."""
        bucket, key = self.stack.physical_id("PayloadBucket"), json.loads(letter["body"])["body_in_bucket"]
        body: bytes = self.stack.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return body.decode()

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """What `look` finds, as soon as it finds something."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        said = [line for line in logs(self.stack, follow=False) if "WARNING" in line or "ERROR" in line]
        raise AssertionError(
            "\n".join([f"waited {WAIT_SECONDS} s in vain for {what}; the functions said:", *said[-20:]])
        )

    # --- what arrived ---

    def sandbox(self, view: str) -> Any:
        """One of the sandbox's own views."""
        return self.stack.ask_sandbox("GET", view).json()

    def publish(self, uuid: str) -> None:
        """Publish a draft, as its coordinator would in PA2."""
        self.stack.ask_sandbox("POST", f"drafts/{uuid}/publish").raise_for_status()

    def at_kiva(self, kind: str, loan_id: str) -> list[Any]:
        """Everything that arrived at Kiva for a loan: draft bodies, journals, or rows of uploads."""
        match kind:
            case "loan_draft":
                bodies = [kept["body"] for kept in self.sandbox("drafts")["data"]]
                return [body for body in bodies if body["entreps"][0]["loan_id"] == loan_id]
            case "journal_update":
                journals = [kept["journal"] for kept in self.sandbox("journals")["data"]]
                return [journal for journal in journals if journal["internal_loan_id"] == loan_id]
            case _:
                rows = [row for upload in self.sandbox("uploads")["data"] for row in upload["rows"]]
                return [row for row in rows if row["loan_id"] == loan_id]

    def kept(self) -> list[str]:
        """The keys of all that is kept because nobody knows what became of it."""
        bucket = self.stack.physical_id("PayloadBucket")
        found = self.stack.client("s3").list_objects_v2(Bucket=bucket, Prefix="unknown/")
        return [each["Key"] for each in found.get("Contents", [])]

    def function_logs(self) -> str:
        """Everything that all functions have ever logged, as it stands in CloudWatch."""
        client = self.stack.client("logs")
        lines = []
        for group in client.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{self.stack.name}-")["logGroups"]:
            for page in client.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                lines += [event["message"] for event in page["events"]]
        return "\n".join(lines)

    def log_lines(self, reference: str) -> list[str]:
        """What the functions logged about a submission."""
        return [line for line in self.function_logs().splitlines() if f'"{reference}"' in line]

    def die_before_sending(self, kind: str, message: dict[str, Any]) -> list[str]:
        """Leave submissions as a function does that ends between its claim and the POST; gives their references."""
        submissions = parse(Kind(kind), text(message), RULES).submissions
        references = [each.reference for each in submissions]
        ledger = Ledger(lambda: self.stack.client("dynamodb"), self.stack.physical_id("LedgerTable"), SCOPE)
        ledger.claim(submissions, "a dead function", LONG_AGO, dict.fromkeys(references, f"call-{self.number()}"))
        return references

    def die_while_sending(self, kind: str, reference: str, lease_until: float = LONG_AGO) -> None:
        """Leave a submission as a function does that ends after the POST and before it has noted the answer."""
        self.note(kind, reference, "SENDING", lease_until, forget_outcome=True)

    def note(
        self, kind: str, reference: str, state: str, lease_until: float = LONG_AGO, *, forget_outcome: bool = False
    ) -> None:
        """Write a state into a submission's row, past everything that guards it."""
        self.stack.client("dynamodb").update_item(
            TableName=self.stack.physical_id("LedgerTable"),
            Key={"pk": {"S": f"{SCOPE}#submission#{kind}#{reference}"}},
            ConditionExpression="attribute_exists(pk)",
            UpdateExpression="SET #state = :state, kind_state = :kind_state, lease_until = :lease_until"
            + (" REMOVE outcome" if forget_outcome else ""),
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={
                ":state": {"S": state},
                ":kind_state": {"S": f"{SCOPE}#{kind}#{state}"},
                ":lease_until": {"N": str(int(lease_until))},
            },
        )

    def state_file(self, name: str) -> str:
        """A file of the stack's state folder."""
        return (Path(self.stack.state) / name).read_text()


def text(message: dict[str, Any] | str) -> str:
    """A message as the text that a producer sends."""
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def loans(kind: str, message: dict[str, Any]) -> list[str]:
    """The loan ids in a message."""
    match kind:
        case "loan_draft":
            return [message["entreps"][0]["loan_id"]]
        case "journal_update":
            return [journal["internal_loan_id"] for journal in message["journals"]]
        case _:
            return [row["loan_id"] for row in message["repayments"]]
