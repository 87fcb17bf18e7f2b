"""Each alarm's case on the stack that `local.stack` keeps running, by one line, so that the runbook is rehearsed.

    python -m local.cases [NAME [--end]]

The cause is real: a fault of the imitation of Kiva, a wrong secret, a schedule that is off. What takes hours is set:
the age of a row, the end of a token, and the alarm, which the embedded AWS does not evaluate. `--end` does what people
would do, or Kiva by itself.
"""

import argparse
import base64
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import Any, Final

from cli.dead_letters import redrive
from cli.show import fit_every_terminal
from cli.stacks import local_stack
from kiva_partner.examples import REQUESTS
from kiva_partner.ledger import Ledger
from kiva_partner.messages import Kind, parse
from kiva_partner.runs import Runs
from kiva_partner.sending import Sending
from kiva_partner.settings import AmountMode, PartnerRules
from local.processes import StackError
from local.stack import PARTNER, REGION, STATE, Stack, attach

SECONDS: Final = 100.0
"""For what is sent to settle; a message that is retried waits up to half a minute at first."""
SCOPE: Final = f"sandbox#{PARTNER.id}"
TWO_HOURS: Final = 7200.0
REASON: Final = "a rehearsal"
PHOTO: Final = "photos/rehearsal.gif"
DRAFT, REPAYMENT = Kind.LOAN_DRAFT, Kind.REPAYMENT
_DOT = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


@dataclass(frozen=True)
class Case:
    """A case: how it is made and ended, what it is in a few words, and its heading of docs/runbook.md."""

    name: str
    heading: str
    what: str
    make: Callable[[Stack], None]
    end: Callable[[Stack], None]


def make(stack: Stack, case: Case) -> None:
    """Make the case, and ring its alarm. Raises StackError where it does not come about in time."""
    case.make(stack)
    _ring(stack, case, "ALARM")


def end(stack: Stack, case: Case) -> None:
    """End the case as a person would, or Kiva. Raises StackError where that does not help in time."""
    case.end(stack)
    _ring(stack, case, "OK")


# --- the cases --------------------------------------------------------------------------------------------------------


def _letter(stack: Stack) -> None:
    stack.client("s3").delete_object(Bucket=stack.physical_id("PayloadBucket"), Key=PHOTO)
    _queue(stack, _draft(photo={"s3_key": PHOTO}))
    _until(lambda: _messages(stack, stack.dead_letter_queues[DRAFT]) > 0, "a dead letter")


def _fix_and_redrive(stack: Stack) -> None:
    bucket = stack.physical_id("PayloadBucket")
    stack.client("s3").put_object(Bucket=bucket, Key=PHOTO, Body=_DOT, ContentType="image/gif")
    list(redrive(local_stack(stack.name, stack.endpoint, stack.api, REGION), DRAFT))
    _until(lambda: _messages(stack, stack.queues[DRAFT]) == 0, "an empty queue")


def _stick(stack: Stack) -> None:
    rules = PartnerRules(needs_client_id=False, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=1)
    submissions = parse(DRAFT, json.dumps(_draft()), rules).submissions
    ledger = Ledger(lambda: stack.client("dynamodb"), _table(stack), SCOPE)
    ledger.enqueue(submissions)
    ledger.mark_stuck([(row, REASON) for row in ledger.read_all(DRAFT, [it.reference for it in submissions]).values()])


def _give_up(stack: Stack) -> None:
    for row in _rows(stack, "STUCK"):
        _decide(stack, row, decision="abandon")


def _doubt(stack: Stack) -> None:
    _switch(stack, fault="lost", fault_on="loan_draft", fault_times=1)
    _queue(stack, draft := _draft())
    _until(lambda: _state(stack, draft) == "UNKNOWN", "an unknown outcome")
    _let_decide(stack)


def _find_it_at_kiva(stack: Stack) -> None:
    drafts = stack.ask_sandbox("GET", "drafts").json()["data"]
    at_kiva = {each["body"]["entreps"][0]["loan_id"]: each for each in drafts}
    for row in _rows(stack, "UNKNOWN"):
        _decide(stack, row, decision="accepted", kiva_reference=at_kiva[row["loan_id"]]["loan_draft_uuid"])


def _doubts(stack: Stack) -> None:
    _switch(stack, fault=500, fault_on="loan_draft")
    _queue(stack, *(_draft() for _ in range(3)))
    _until(lambda: len(_rows(stack, "UNKNOWN")) >= 3, "three calls in doubt")  # noqa: PLR2004 open the circuit


def _no_more_doubts(stack: Stack) -> None:
    _switch(stack, fault="off")
    sending = Sending(lambda: stack.client("dynamodb"), _table(stack), SCOPE)
    sending.write_circuits({}, sending.read().version)  # as one that is tried closes it
    _let_decide(stack)
    for row in _rows(stack, "UNKNOWN"):
        _decide(stack, row, decision="abandon")


def _outage(stack: Stack) -> None:
    _switch(stack, fault=429)
    draft = _post(stack)
    _until(lambda: _state(stack, draft) == "RETRY", "a submission to be retried")
    _set(stack, _reference(draft), created_at=_iso(time.time() - TWO_HOURS))


def _kiva_is_back(stack: Stack) -> None:
    _switch(stack, fault="off")
    _until(lambda: not _rows(stack, "RETRY"), "an outcome of what waited")


def _stop_queue(stack: Stack) -> None:
    _enable(stack, on=False)
    _set(stack, _reference(_post(stack)), created_at=_iso(time.time() - TWO_HOURS))


def _start_queue(stack: Stack) -> None:
    _enable(stack, on=True)
    _until(lambda: not _rows(stack, "QUEUED"), "an outcome of what waited")


def _mistype(stack: Stack) -> None:
    for _ in range(2):  # the ones before would serve on
        _store(stack, client_secret=f"mistyped-{uuid.uuid4()}")
    _end_token(stack, -60)
    _until(lambda: "refuses" in keep_house(stack)["token"], "refused credentials")


def _type_again(stack: Stack) -> None:
    _store(stack, client_secret=PARTNER.client_secret)
    _renew(stack)


def _token_fails(stack: Stack) -> None:
    _switch(stack, fault=503, fault_on="token")
    _end_token(stack, 1800)
    _until(lambda: "503" in keep_house(stack)["token"], "a token that is not renewed")


def _token_is_back(stack: Stack) -> None:
    _switch(stack, fault="off")
    _renew(stack)


def _refuse(stack: Stack) -> None:
    _switch(stack, drafts="strict")
    _queue(stack, *(_draft(activity_id=999_999) for _ in range(12)))
    _until(lambda: len(_rows(stack, "REJECTED")) >= 12, "twelve refusals")  # noqa: PLR2004 those that were sent
    keep_house(stack)


def _see_to_refusals(stack: Stack) -> None:
    _switch(stack, drafts="lenient")
    for row in _rows(stack, "REJECTED"):
        stack.call("POST", f"/waiting/{DRAFT}/{row['reference']}/done")
        _set(stack, row["reference"], updated_at=_iso(time.time() - TWO_HOURS))


def _stop_clock(stack: Stack) -> None:
    schedule(stack, "DISABLED")
    long_ago = Runs(lambda: stack.client("dynamodb"), _table(stack), SCOPE, clock=lambda: time.time() - TWO_HOURS)
    long_ago.ended("housekeeping", {"token": "kept"})


def _start_clock(stack: Stack) -> None:
    schedule(stack, "ENABLED")
    keep_house(stack)


def _pause(stack: Stack) -> None:
    stack.call("POST", "/pause", json.dumps({"reason": REASON, "kind": REPAYMENT})).raise_for_status()


def _resume(stack: Stack) -> None:
    stack.call("POST", "/resume", json.dumps({"reason": REASON, "kind": REPAYMENT})).raise_for_status()


def _restore(stack: Stack) -> None:
    _update(stack, f"{SCOPE}#sending", table_id="the-table-before-the-restore")


def _judge(stack: Stack) -> None:
    stack.call("POST", "/resume", json.dumps({"reason": REASON, "restored": True})).raise_for_status()


def _lose_outcome(stack: Stack) -> None:
    letter = {"eventID": "rehearsal", "Keys": {"pk": {"S": "rehearsal"}}, "error": "KeyError at ledger.py:1"}
    url = stack.physical_id("OutcomesDeadLetterQueue")
    stack.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(letter))


def _delete_letters(stack: Stack) -> None:
    stack.client("sqs").purge_queue(QueueUrl=stack.physical_id("OutcomesDeadLetterQueue"))


def _nothing(_: Stack) -> None:
    """What AWS alone can be wrong with: only the alarm rings."""


_ONLY: Final = "the alarm rings alone: its cause cannot be made on this machine"
CASES: Final = (
    Case("dead-letters", "Dead letters", "a draft names a photo that is not there", _letter, _fix_and_redrive),
    Case("stuck", "What is stuck", "a draft whose message is gone", _stick, _give_up),
    Case("messages-wait", "Messages wait too long", "nobody takes drafts from their queue", _stop_queue, _start_queue),
    Case("kiva-down", "Kiva takes nothing", "Kiva answers HTTP 429, for two hours", _outage, _kiva_is_back),
    Case("circuit-open", "The breaker is open", "Kiva answers HTTP 500", _doubts, _no_more_doubts),
    Case("unknown", "Unknown outcomes", "Kiva's answer is lost, 20 minutes ago", _doubt, _find_it_at_kiva),
    Case("refused-many", "Kiva refuses many", "twelve drafts of an unknown activity", _refuse, _see_to_refusals),
    Case("misconfigured", "Misconfigured", "the secret is mistyped, twice", _mistype, _type_again),
    Case("token", "The token is not renewed", "the token service answers HTTP 503", _token_fails, _token_is_back),
    Case("api-fails", "The API fails", _ONLY, _nothing, _nothing),
    Case("housekeeping", "Housekeeping does not run", "its schedule is off, for two hours", _stop_clock, _start_clock),
    Case("outcomes-late", "Outcomes are published late", _ONLY, _nothing, _nothing),
    Case("outcomes", "Outcomes that were not published", "a row cannot be read", _lose_outcome, _delete_letters),
    Case("paused", "To pause sending", "repayments are paused", _pause, _resume),
    Case("restored", "The table was restored", "the ledger is another table than before", _restore, _judge),
)


# --- how --------------------------------------------------------------------------------------------------------------


def _draft(**changes: Any) -> dict[str, Any]:
    """A complete draft of a loan that is new."""
    draft = json.loads(json.dumps(REQUESTS[DRAFT]["individual"]["value"]))
    draft["entreps"][0]["loan_id"] = f"CASE-{uuid.uuid4().hex[:12]}"
    del draft["photo"]
    return {**draft, **changes}


def _reference(draft: Mapping[str, Any]) -> str:
    return str(draft["entreps"][0]["loan_id"])


def _queue(stack: Stack, *drafts: Mapping[str, Any]) -> None:
    entries = [{"Id": str(at), "MessageBody": json.dumps(it)} for at, it in enumerate(drafts)]
    for some in batched(entries, 10):
        stack.client("sqs").send_message_batch(QueueUrl=stack.queues[DRAFT], Entries=list(some))


def _post(stack: Stack) -> dict[str, Any]:
    """Send a draft by the API, which notes it at once; gives it."""
    draft = _draft()
    stack.call("POST", "/loan-drafts", json.dumps(draft), {"Content-Type": "application/json"}).raise_for_status()
    return draft


def _enable(stack: Stack, *, on: bool) -> None:
    """The function for drafts: whether it takes anything from its queue."""
    client = stack.client("lambda")
    (mapping,) = client.list_event_source_mappings(FunctionName=stack.physical_id("LoanDraftsFunction"))[
        "EventSourceMappings"
    ]
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=on)


def _until(happens: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not happens():
        if time.monotonic() > deadline:
            raise StackError(f"After {SECONDS:.0f} s there is not yet: {what}. See: make logs")
        time.sleep(1)


def _switch(stack: Stack, **switches: Any) -> None:
    stack.ask_sandbox("PATCH", "switches", {"fault_on": "all", "fault_times": "always", **switches}).raise_for_status()


def _messages(stack: Stack, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = stack.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(told[name]) for name in names)


def _state(stack: Stack, draft: Mapping[str, Any]) -> str:
    return str(stack.call("GET", f"/submissions/{DRAFT}/{_reference(draft)}").json().get("state", ""))


def _rows(stack: Stack, state: str) -> list[dict[str, Any]]:
    """The drafts of cases in a state."""
    found = stack.call("GET", f"/submissions?kind={DRAFT}&state={state}&limit=1000").json()["submissions"]
    return [row for row in found if row["loan_id"].startswith("CASE-")]


def _decide(stack: Stack, row: Mapping[str, Any], **decision: str) -> None:
    path = f"/submissions/{DRAFT}/{row['reference']}/decision"
    stack.call("POST", path, json.dumps({"reason": REASON, **decision})).raise_for_status()


def _let_decide(stack: Stack) -> None:
    """As after 20 minutes: nobody can be at work on it any more."""
    for row in _rows(stack, "UNKNOWN"):
        _set(stack, row["reference"], lease_until=1)


def _set(stack: Stack, reference: str, **attributes: Any) -> None:
    _update(stack, f"{SCOPE}#submission#{DRAFT}#{reference}", **attributes)


def _update(stack: Stack, key: str, **attributes: Any) -> None:
    stack.client("dynamodb").update_item(
        TableName=_table(stack),
        Key={"pk": {"S": key}},
        UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in attributes),
        ExpressionAttributeValues={
            f":{name}": {"N": str(it)} if isinstance(it, int) else {"S": it} for name, it in attributes.items()
        },
    )


def _table(stack: Stack) -> str:
    return stack.physical_id("LedgerTable")


def _store(stack: Stack, **changes: str) -> None:
    secret = {"client_id": PARTNER.client_id, "environment": "sandbox", "partner_id": PARTNER.id, **changes}
    arn = stack.physical_id("CredentialsSecret")
    stack.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(secret))


def _end_token(stack: Stack, seconds: float) -> None:
    """Have the shared token end so many seconds from now."""
    _renew(stack)
    secrets, arn = stack.client("secretsmanager"), stack.physical_id("TokenSecret")
    token = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
    times = {"obtained_at": time.time() - 40_000, "expires_at": time.time() + seconds}
    secrets.put_secret_value(SecretId=arn, SecretString=json.dumps(token | times))


def _renew(stack: Stack) -> None:
    """As `relay check` does, and then housekeeping sees that there is one."""
    stack.call("GET", "/check").raise_for_status()
    _until(lambda: keep_house(stack)["token"] in ("kept", "renewed"), "a token")


def keep_house(stack: Stack) -> dict[str, Any]:
    """Run housekeeping now; gives what it did."""
    name, tick = stack.physical_id("HousekeepingFunction"), json.dumps({"detail-type": "Scheduled Event"})
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=tick)
    done: dict[str, Any] = json.loads(answer["Payload"].read())
    return done


def schedule(stack: Stack, state: str) -> None:
    """Turn the clock of housekeeping on (`ENABLED`) or off (`DISABLED`)."""
    scheduler, name = stack.client("scheduler"), f"{stack.name}-housekeeping"
    known = scheduler.get_schedule(Name=name)
    wanted = ("ScheduleExpression", "FlexibleTimeWindow", "Target")
    scheduler.update_schedule(Name=name, State=state, **{it: known[it] for it in wanted})


def _ring(stack: Stack, case: Case, state: str) -> None:
    """Set the alarms whose description names the case's heading, as CloudWatch would."""
    cloudwatch = stack.client("cloudwatch")
    for name in alarms_of(stack, case.heading):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=REASON)


def alarms_of(stack: Stack, heading: str) -> Iterator[str]:
    """The names of the stack's alarms that lead to a heading of the runbook."""
    pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
    for page in pages:
        yield from (it["AlarmName"] for it in page["MetricAlarms"] if f'"{heading}"' in it["AlarmDescription"])


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def main() -> int:
    """Run the command line; 0 when done, 1 with a message when not."""
    fit_every_terminal()
    parser = argparse.ArgumentParser(prog="python -m local.cases", description="Rehearse the runbook.")
    parser.add_argument("name", nargs="?", choices=[case.name for case in CASES], metavar="NAME")
    parser.add_argument("--end", action="store_true", help="end the case, as a person would")
    parser.add_argument("--state", type=Path, default=STATE, help="the stack's folder")
    chosen = parser.parse_args()
    if chosen.name is None:
        for case in CASES:
            print(f"  make case NAME={case.name:<20} {case.what}")
        return 0
    (case,) = (case for case in CASES if case.name == chosen.name)
    try:
        stack = attach(chosen.state.resolve())
        if not stack:
            raise StackError("No stack is running here. Start one: make up")
        (end if chosen.end else make)(stack, case)
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1
    if chosen.end:
        print(f"Ended: {case.what}.")
    else:
        print(f'Made: {case.what}.\n\n  relay health\n  docs/runbook.md, "{case.heading}"')
        print(f"  make case NAME={case.name} END=1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
