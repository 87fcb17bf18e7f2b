"""What must be true whatever happens, told from Kiva's log, the ledger write by write, the queues and what was said."""

import json
from collections import Counter, defaultdict
from datetime import datetime
from functools import cache

from faults.world import SETTINGS
from kiva_partner.decisions import Choice
from kiva_partner.housekeeping import RETENTION_SECONDS
from kiva_partner.ledger import State
from kiva_partner.messages import Kind, from_text, parse
from kiva_partner.payloads import pointed
from kiva_partner.settings import UnknownPolicy

SETTLING_SECONDS = 15 * 60
MOVES = {
    None: {State.QUEUED, State.SENDING},
    State.QUEUED: {State.SENDING, State.STUCK},
    State.SENDING: {State.ACCEPTED, State.REJECTED, State.RETRY, State.UNKNOWN},
    State.RETRY: {State.SENDING, State.RETRY, State.STUCK},
    State.STUCK: {State.SENDING, State.QUEUED, State.ABANDONED},
    State.UNKNOWN: {State.ACCEPTED, State.REJECTED, State.RETRY, State.ABANDONED, State.UNKNOWN},
    State.REJECTED: {State.SENDING, State.QUEUED, State.REJECTED},
    State.ABANDONED: {State.SENDING, State.QUEUED},
    State.ACCEPTED: set(),
}


def body(kind, number, version):
    """One message. Another version under the same number is other content under the same reference."""
    match kind:
        case Kind.LOAN_DRAFT:
            entrep = {
                "client_id": "C",
                "loan_id": f"{number}",
                "first_name": "A",
                "gender": "female",
                "amount": version,
            }
            return json.dumps({"currency": "KES", "entreps": [entrep]})
        case Kind.JOURNAL_UPDATE:
            item = {"internal_client_id": "C", "subject": "S", "body": f"{version}"}
            rows = [{"internal_loan_id": f"{number}{each}", **item} for each in "ab"]
            return json.dumps({"reference": f"J{number}", "journals": rows})
        case Kind.REPAYMENT:
            rows = [{"loan_id": f"{number}{each}", "client_id": "C", "amount": version} for each in "ab"]
            return json.dumps({"reference": f"R{number}", "repayments": rows})


def content_of(kind, row):
    """What Kiva got, as (kind, loan, version)."""
    match kind:
        case Kind.LOAN_DRAFT:
            return kind, row["entreps"][0]["loan_id"], float(row["entreps"][0]["amount"])
        case Kind.JOURNAL_UPDATE:
            return kind, row["internal_loan_id"], row["body"]
        case Kind.REPAYMENT:
            return kind, row["loan_id"], float(row["amount"])


@cache
def submissions_of(kind, text):
    return parse(kind, text, SETTINGS.rules).submissions


class Row:
    """An item of the ledger, as far as the books need it; an absent one has no state."""

    def __init__(self, item):
        item = item or {}
        outcome = item.get("outcome", {"M": {}})["M"]
        self.state = State(item["state"]["S"]) if "state" in item else None
        self.kind, self.reference, self.fingerprint, self.owner, self.payload = (
            item.get(name, {"S": ""})["S"] for name in ("kind", "reference", "fingerprint", "owner", "payload")
        )
        self.key = (self.kind, self.reference)
        self.event = (self.kind, self.reference, self.fingerprint)
        self.updated_at = item.get("updated_at", {"S": ""})["S"]
        self.lease_until = float(item.get("lease_until", {"N": "0"})["N"])
        self.requeue = "requeue" in item
        self.reopened = "reopened" in item
        self.decisions = [each["M"]["decision"]["S"] for each in item.get("decisions", {"L": []})["L"]]
        self.reason = outcome.get("reason", {"S": ""})["S"]
        self.proof = [value["S"] for value in outcome.get("kiva", {"M": {}})["M"].values()]

    def __repr__(self):
        return f"{self.kind} {self.reference}: {self.state} {self.reason}"


class Books:
    def __init__(self, world):
        self.world = world
        self.events = {}
        self.texts = {}
        self.may_send_again = world.settings.unknown_policies[Kind.REPAYMENT] is UnknownPolicy.RESEND
        self.settled = set()
        self.broken = []
        world.dynamodb.watch = self._written

    def producer_sent(self, kind, text):
        for submission in submissions_of(kind, text):
            event = (kind, submission.reference, submission.fingerprint)
            self.events[event] = content_of(kind, submission.content)
            self.texts[event] = text

    def rows(self):
        """Every submission of the ledger, in an order that stays the same."""
        found = [Row(item) for item in self.world.dynamodb.items() if "fingerprint" in item]
        return sorted(found, key=lambda row: row.key)

    def open(self):
        """What is not settled."""
        return [row for row in self.rows() if not row.state.is_final]

    def check(self):
        """Raises AssertionError with the first thing that is not as it must be."""
        assert self.broken + self.world.telemetry.unexpected_errors == []
        rows, log = {row.key: row for row in self.rows()}, _Log(self.world.kiva.log)
        places, gone = self.places(), self._gone()
        for event, content in self.events.items():
            kind, reference, fingerprint = event
            row = rows.get((kind, reference), Row(None))
            self._check_times(event, row, log.processed[content])
            if row.fingerprint == fingerprint:
                self._check_state(event, row, content, log, waits=event in places, gone=event in gone)
            else:
                assert event in places or event in gone or event in self.settled, f"{event} is nowhere"

    def _check_times(self, event, row, times):
        send_agains = row.decisions.count(Choice.SEND_AGAIN)
        assert not send_agains or self.may_send_again, f"{event} was sent again, and nobody said so"
        assert times <= 1 + send_agains, f"{event} was processed {times} times"

    def _check_state(self, event, row, content, log, *, waits, gone):
        match row.state:
            case State.ACCEPTED:
                by_word = "found among" in row.reason or row.decisions[-1:] == [Choice.ACCEPTED]
                proved = [proof.rpartition("-")[2].lstrip("0") for proof in row.proof]
                assert by_word or log.processed[content], f"{event} is ACCEPTED, and Kiva has it not"
                assert by_word or set(proved) <= log.references[content], f"{event} has the proof of another one"
            case State.REJECTED:
                refused = content in log.last_end and log.last_end[content].refuses
                excepted = "somebody found" in row.reason and Choice.ACCEPTED in row.decisions
                assert refused or excepted, f"{event} is REJECTED, and Kiva did not refuse it"
            case State.RETRY | State.QUEUED:
                comes = row.requeue and row.payload in self.world.s3.objects
                # What was purged or has expired is noticed only after a week: the machine waits for that at its end.
                assert waits or comes or gone, f"{event} is {row.state}, and nothing brings it to Kiva"
            case State.STUCK:
                sent_again = row.decisions.count(Choice.SEND_AGAIN)
                assert log.processed[content] <= sent_again, f"{event} is STUCK, and Kiva has it"
                assert waits or gone, f"{event} is STUCK, and its message is nowhere"
            case State.UNKNOWN:
                kept = row.payload in self.world.s3.objects and self._kept(row.payload).fingerprint == event[2]
                assert waits or kept or gone, f"{event} is UNKNOWN, and its payload is gone"

    def _written(self, before, after):
        if after and "fingerprint" in after:
            old, new = Row(before), Row(after)
            self.broken += [f"{new}: {complaint}" for complaint in self._complaints(old, new)]
            if new.state.is_final:
                self.settled.add((*new.key, new.fingerprint))

    def _complaints(self, old, new):
        """Every move of a row is one that the states allow, at its time, and made by whom it is for."""
        now = self.world.clock()
        decided = len(new.decisions) - len(old.decisions)
        if new.state not in MOVES[old.state]:
            yield f"it was {old.state}"
        if old.state in (State.REJECTED, State.ABANDONED) and old.fingerprint == new.fingerprint:
            reopens = old.state is new.state is State.REJECTED and decided == 1
            if not (reopens or old.reopened):
                yield f"it was {old.state} with the same content"
        if old.state not in (None, State.REJECTED, State.ABANDONED) and old.fingerprint != new.fingerprint:
            yield f"it was {old.state} with other content"
        if new.state is State.STUCK:
            yield from self._complaints_of_stuck(old, new)
        if old.state is State.SENDING and old.owner != new.owner:
            yield "the claim passed to another owner"
        if old.state is State.SENDING and "without a word" in new.reason and old.lease_until >= now:
            yield "the claim was still alive"
        if new.state is State.SENDING and new.lease_until < self.world.ends:
            yield "the claim ends before its sender does"
        yield from self._complaints_of_decision(old, new, decided)

    def _complaints_of_decision(self, old, new, decided):
        ends = new.state in (State.RETRY, State.ABANDONED, State.REJECTED)
        if old.state in (State.UNKNOWN, State.STUCK) and ends and decided != 1:
            yield "nobody decided that"
        if decided and old.state is State.UNKNOWN and old.lease_until + SETTLING_SECONDS > self.world.clock():
            yield "it was decided while its call might still be under way"

    def _complaints_of_stuck(self, old, new):
        if "dead letter:" in new.reason and new.event not in self.letters():
            yield "there is no dead letter"
        if "was purged" in new.reason and _seconds(old.updated_at) >= self.world.clock() - RETENTION_SECONDS:
            yield "its queue may still have its message"

    def places(self):
        """The events that lie in a queue, or among the dead letters."""
        return self.letters() | self._events(lambda queue: queue.messages)

    def letters(self):
        """The events among the dead letters."""
        return self._events(lambda queue: queue.dead_letters.messages)

    def _gone(self):
        """The events that have expired in a queue, or were purged."""
        return self._events(lambda queue: queue.expired)

    def _events(self, messages_of):
        return {
            event
            for kind, queue in self.world.queues.items()
            for message in messages_of(queue)
            for event in self.events_of(kind, message.body)
        }

    def events_of(self, kind, text):
        kept = pointed(text)
        if kept and kept.key not in self.world.s3.objects:
            return []
        submissions = [self._kept(kept.key)] if kept else submissions_of(kind, text)
        return [(kind, each.reference, each.fingerprint) for each in submissions]

    def _kept(self, key):
        return from_text(self.world.s3.objects[key].decode())


def _seconds(moment):
    return datetime.fromisoformat(moment).timestamp()


class _Log:
    """Kiva's log by content: how often each was processed, how its last call ended, and the references given for it."""

    def __init__(self, log):
        self.processed, self.last_end, self.references = Counter(), {}, defaultdict(set)
        for kind, rows, end, number in log:
            for row in rows:
                content = content_of(kind, row)
                self.processed[content] += end.processes
                self.last_end[content] = end
                self.references[content].add(str(number))
