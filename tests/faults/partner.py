"""A partner with everything the template gives one: queues, functions, a ledger; and a test that makes time pass."""

import json
from itertools import batched, count

from deployment import ENVIRONMENT, FUNCTIONS, TABLE, credentials
from faults.aws import new_partner
from faults.environment import Invocation, Killed
from faults.poller import failures
from invocations import request
from kiva_partner.ledger import Ledger, State
from kiva_partner.messages import Kind, parse
from kiva_partner.settings import Settings

AFTER_THE_LEASE = 400
"""Seconds: an invocation of 290 s and the margin of its claims are over."""

AFTER_SETTLING = 1000
"""Seconds: the 15 minutes are over in which Kiva may still finish what it was sent, and nobody decides."""

IN_HAND = 43_000
"""SQS's visibility timeout in real seconds: none comes again before the test says so."""


def message(kind, loans, amount=100):
    """What a producer sends for these loans."""
    match kind:
        case Kind.LOAN_DRAFT:
            (loan,) = loans
            entrep = {"client_id": "C", "loan_id": loan, "first_name": "A", "gender": "female", "amount": amount}
            return {"currency": "KES", "entreps": [entrep]}
        case Kind.JOURNAL_UPDATE:
            update = {"internal_client_id": "C", "subject": "S", "body": f"She sold {amount} baskets."}
            return {"reference": f"j-{loans[0]}", "journals": [{"internal_loan_id": loan, **update} for loan in loans]}
        case Kind.REPAYMENT:
            rows = [{"loan_id": loan, "client_id": "C", "amount": amount} for loan in loans]
            return {"reference": f"r-{loans[0]}", "repayments": rows}


class Partner:
    def __init__(self, aws, kiva, environment, kind, **variables):
        self.id = kiva.partner = new_partner()
        self.kind = kind
        self.ahead = 0.0
        self._aws, self._environment = aws, environment
        self._sqs = aws.client("sqs")
        self.queue, self.dead_letters = (
            self._sqs.create_queue(QueueName=f"{self.id}-{name}")["QueueUrl"] for name in ("queue", "dead-letters")
        )
        self._bucket = f"payloads-{self.id}"
        aws.client("s3").create_bucket(Bucket=self._bucket)
        secret = f"credentials-{self.id}"
        aws.client("secretsmanager").create_secret(Name=secret, SecretString=credentials("x", partner_id=self.id))
        self._variables = {
            **ENVIRONMENT,
            "KIVA_CREDENTIALS_SECRET": secret,
            "KIVA_PARTNER_ID": self.id,
            "KIVA_TOKEN_URL": f"{kiva.url}/oauth/token",
            "KIVA_API_BASE_URL": kiva.url,
            "PAYLOAD_BUCKET": self._bucket,
            "QUEUE_URL": self.queue,
            "DEAD_LETTER_QUEUE_URL": self.dead_letters,
            **{f"{each.upper()}_QUEUE_URL": self.queue for each in Kind},
            **{f"{each.upper()}_DEAD_LETTER_QUEUE_URL": self.dead_letters for each in (*Kind, "outcomes")},
            **variables,
        }
        self._settings = Settings.from_environment(self._variables)
        self.ledger = Ledger(lambda: aws.client("dynamodb"), TABLE, self._settings.ledger_scope)
        self._loans = count(1)

    def new_ledger(self):
        """The ledger over connections of its own."""
        dynamodb = self._aws.new_client("dynamodb")
        return Ledger(lambda: dynamodb, TABLE, self._settings.ledger_scope)

    def new_loans(self, number):
        return [f"{self.id}-{next(self._loans)}" for _ in range(number)]

    def submissions(self, bodies):
        """What these messages hold, each once."""
        found = [
            submission
            for body in bodies
            for submission in parse(self.kind, json.dumps(body), self._settings.rules).submissions
        ]
        return list({each.reference: each for each in found}.values())

    # --- the queue ---

    def send(self, bodies):
        self._for_each(self._sqs.send_message_batch, [{"MessageBody": json.dumps(body)} for body in bodies])

    def receive(self, most=10):
        received = self._sqs.receive_message(
            QueueUrl=self.queue,
            MaxNumberOfMessages=most,
            VisibilityTimeout=IN_HAND,
            MessageSystemAttributeNames=["All"],
        )
        return [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": each["Attributes"],
                "eventSource": "aws:sqs",
            }
            for each in received.get("Messages", [])
        ]

    def deliver(self, records, death=None, environment=None, *, hurried=False):
        """Invoke the function with a batch, and delete what it is done with; what is not comes again at once.

        Gives whether the function lived to answer.
        """
        try:
            answer = self.invoke(FUNCTIONS[self.kind], {"Records": records}, death, environment, hurried=hurried)
        except Killed as killed:
            answer = killed
        again = failures(answer, [record["messageId"] for record in records])
        handles = {True: [], False: []}
        for record in records:
            handles[record["messageId"] in again].append({"ReceiptHandle": record["receiptHandle"]})
        self._for_each(self._sqs.delete_message_batch, handles[False])
        self._for_each(
            self._sqs.change_message_visibility_batch, [{**handle, "VisibilityTimeout": 0} for handle in handles[True]]
        )
        return not isinstance(answer, Killed)

    def _for_each(self, do, entries):
        """One of SQS's batch calls, with as many entries at a time as it takes."""
        for some in batched(entries, 10):
            done = do(QueueUrl=self.queue, Entries=[{"Id": str(number), **each} for number, each in enumerate(some)])
            assert not done.get("Failed")

    def letters(self):
        """Take what lies in the dead-letter queue."""
        found = []
        while some := self._sqs.receive_message(
            QueueUrl=self.dead_letters, MaxNumberOfMessages=10, VisibilityTimeout=IN_HAND
        ).get("Messages"):
            found += some
        return found

    # --- the functions ---

    def invoke(self, function, event, death=None, environment=None, *, hurried=False):
        invocation = Invocation(function, event, self._variables, self.ahead, death=death, hurried=hurried)
        return (environment or self._environment).invoke(invocation)

    def keep_house(self, death=None):
        """Run housekeeping once; gives how many submissions it found something to do about."""
        done = self.invoke("housekeeping", {"detail-type": "Scheduled Event"}, death)
        return sum(done[what] for what in ("claims_expired", "requeued", "proved", "sent_again", "forgotten"))

    def decide(self, reference, death=None, **decision):
        """A person's POST to the console; gives the status of the answer."""
        path = f"/submissions/{self.kind}/{reference}/decision"
        text = json.dumps({"reason": "looked in PA2", **decision})
        event = request("POST", path, text, headers={"Content-Type": "application/json"})
        return self.invoke("console", event, death)["statusCode"]

    # --- what became of it ---

    def rows(self, submissions):
        """The rows of the ledger, by loan."""
        found = self.ledger.read_all(self.kind, [each.reference for each in submissions])
        return {row.loan_id: row for row in found.values()}

    def live_until_quiet(self, rng, rounds=12):
        """Let time pass, messages come again and housekeeping run until nothing is left to do; tells if that came."""
        for _ in range(rounds):
            self.ahead += AFTER_THE_LEASE
            steps = [self.keep_house, lambda: self._deliver_all(rng)]
            rng.shuffle(steps)
            if sum(step() for step in steps) == 0:
                return True
        return False

    def _deliver_all(self, rng):
        """Every message that is there once; gives how many there were."""
        waiting = []
        while records := self.receive():
            waiting += records
        rng.shuffle(waiting)
        found = len(waiting)
        while waiting:
            size = rng.randint(1, 10)
            self.deliver(waiting[:size])
            waiting = waiting[size:]
        return found

    def audit(self, rows, processed, expected):
        """Compare what Kiva processed and what the ledger says with what should be; gives the loans where it differs.

        Args:
            rows: The ledger's row of each loan.
            processed: How often Kiva processed each loan.
            expected: For each loan its state, and the fewest and the most times that Kiva may have processed it.
        """
        found = {"lost": [], "doubled": [], "wrong": []}
        for loan, (state, fewest, most) in expected.items():
            row, times = rows.get(loan), processed[loan]
            if row is None or times < fewest:
                found["lost"].append(loan)
            if times > most:
                found["doubled"].append(loan)
            if row and (row.state is not state or (state is State.UNKNOWN and not self._is_kept(row))):
                found["wrong"].append(f"{loan} is {row.state}, not {state} (and kept)")
        return found

    def _is_kept(self, row):
        found = self._aws.client("s3").list_objects_v2(Bucket=self._bucket, Prefix=row.payload)
        return bool(row.payload) and found["KeyCount"] == 1
