"""Everything once, by every way in, and then the books are compared: `python -m local.demo`.

September's report goes through the queue, for a partner with two columns. Then the partner is switched to three, as in
PA2, and every file of events/ and October's report follow. The relay's API, the dead-letter queues and the imitation of
Kiva say what became of each, events/README.md how it ought to end. Exit 0 only when they agree and every submission is
at Kiva exactly once.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import requests
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.files import read
from cli.show import WIDE, Submission, fit_every_terminal
from cli.stacks import local_stack
from cli.submit import ENDED, ROUTES, rules_of
from kiva_partner.ledger import State
from local.books import Books, Message, Reading, at_kiva, mistakes, show
from local.processes import StackError
from local.stack import REGION, ROOT, Stack, deploy, logs, running, step

EVENTS: Final = ROOT / "events"
STATE: Final = ROOT / ".local" / "demo"
KINDS: Final = {route: kind for kind, route in ROUTES.items()}
"""What a queue's name ends with and a route is called -> the kind of what goes there."""
WAIT_SECONDS: Final = 90.0


def perform(stack: Stack, console: Console) -> Books:
    """Submit everything, wait until it has ended, and see what Kiva has.

    Raises:
        StackError: Something has not ended in time, or the stack does not answer as it should.
    """
    books = Books()
    events = {_name(file): json.loads(file.read_bytes()) for file in sorted(EVENTS.glob("api/*.json"))}
    _send_report(stack, books, "reports/repayments_two_columns.csv", "2026-09", by_queue=True)
    wait(stack, books, "September's report, two columns, by queue …", console)
    deploy(stack, {"CsvColumns": "3"})
    with step("Submitting events/ and October's report"):
        for file in sorted(EVENTS.glob("sqs/*.json")):
            _put_batch(stack, books, file)
        for name, event in events.items():
            if event["path"].removeprefix("/") in KINDS:
                _post(stack, books, name, event["path"], event["body"], event["headers"])
        _send_report(stack, books, "reports/repayments_three_columns.csv", "2026-10", by_queue=False)
    wait(stack, books, "events/ and October's report, three columns …", console)
    for name, event in events.items():
        if event["path"].removeprefix("/") not in KINDS:
            books.readings.append(_ask(stack, name, event))
    books.readings.append(_call(stack, "HousekeepingFunction", EVENTS / "schedule" / "housekeeping.json"))
    books.readings.append(_call(stack, "OutcomesFunction", EVENTS / "schedule" / "digest.json"))
    books.readings.append(_call(stack, "OutcomesFunction", EVENTS / "stream" / "ledger.json"))
    close(stack, books)
    return books


def _name(file: Path) -> str:
    """A file's name as events/README.md has it."""
    return file.relative_to(EVENTS).as_posix()


def _send_report(stack: Stack, books: Books, name: str, period: str, *, by_queue: bool) -> None:
    rules = rules_of(local_stack(stack.name, stack.endpoint, stack.api, REGION))
    ready, bad = read([EVENTS / name], rules, period=period)
    if bad:
        raise StackError(f"events/{name} is no report: {bad[0]}")
    for body in (message.body.decode() for message in ready):
        if by_queue:
            _put(stack, books, name, "repayment", body)
        else:
            _post(stack, books, name, "/repayments", body, {"Content-Type": "application/json"})


def _put_batch(stack: Stack, books: Books, file: Path) -> None:
    """Put the body of each record into the local queue of the kind that the record's queue is for."""
    for record in json.loads(file.read_bytes())["Records"]:
        kind = next(kind for name, kind in KINDS.items() if record["eventSourceARN"].endswith(f"-{name}"))
        _put(stack, books, _name(file), kind, record["body"])


def _put(stack: Stack, books: Books, name: str, kind: str, body: str) -> None:
    stack.client("sqs").send_message(QueueUrl=stack.queues[kind], MessageBody=body)
    books.messages.append(Message(name, "SQS", kind, body))


def _post(stack: Stack, books: Books, name: str, path: str, body: str, headers: Mapping[str, str]) -> None:
    response = stack.call("POST", path, body.encode(), _kept(headers))
    message = Message(name, "API", KINDS[path.removeprefix("/")], body, status=response.status_code)
    if not response.ok:
        answer = response.json()
        rules = [f"{error['field']} {error['rule']}" for error in answer.get("errors", ())]
        message.refusal = "; ".join(rules) or answer["title"]
    books.messages.append(message)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are about the message; the others are those of another connection."""
    return {name: value for name, value in headers.items() if name in ("Content-Type", "Prefer")}


def _ask(stack: Stack, name: str, event: Mapping[str, Any]) -> Reading:
    """Ask the API, and keep how much it answered and nothing of what: loans carry borrowers' names."""
    method, path, query = event["httpMethod"], event["path"], urlencode(event["queryStringParameters"] or {})
    url, body = f"{path}?{query}" if query else path, (event["body"] or "").encode()
    response = stack.call(method, url, body, _kept(event["headers"]))
    answer = response.json()
    sizes = [f"{len(answer[part])} {part}" for part in ("submissions", "loans", "themes", "paths") if part in answer]
    said = answer.get("state") or "".join(sizes) or answer.get("title", "")
    return Reading(name, f"{method} {path}", response.status_code, said)


def _call(stack: Stack, function: str, file: Path) -> Reading:
    """Call a function as its schedule or its stream does."""
    name = stack.physical_id(function)
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=file.read_bytes())
    done = json.loads(answer["Payload"].read())
    # Lambda answers 200 for an exception too.
    status = 500 if "FunctionError" in answer else answer["StatusCode"]
    return Reading(_name(file), file.parent.name, status, said(done))


def said(answer: Mapping[str, Any]) -> str:
    """What a function answers that no HTTP client called, in a few words."""
    return ", ".join(f"{what}: {value}" for what, value in answer.items() if value) or "nothing comes again"


# --- what became of it ----------------------------------------------------------------------------------------------


def wait(stack: Stack, books: Books, what: str, console: Console) -> None:
    """Wait until every message has ended, and note how."""
    pending = [message for message in books.messages if message.missing]
    total = sum(message.missing for message in pending)
    deadline = time.monotonic() + WAIT_SECONDS
    seconds = TextColumn("{task.elapsed:5.1f} s")
    columns = (TextColumn("{task.description:<47}"), seconds, BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=total)
        while pending:
            time.sleep(0.5)
            _note(stack, books, ENDED)
            pending = [message for message in pending if message.missing]
            progress.update(bar, completed=total - sum(message.missing for message in pending))
            if pending and time.monotonic() > deadline:
                raise StackError("\n".join(_out_of_time(stack, pending)))


def close(stack: Stack, books: Books) -> None:
    """Note what the relay and Kiva have in the end. Everything has ended: whatever turns up now is one too many."""
    _note(stack, books, State)
    drafts, journals, uploads = (
        stack.ask_sandbox("GET", view).json()["data"] for view in ("drafts", "journals", "uploads")
    )
    books.at_kiva = at_kiva(drafts, journals, uploads)
    counters = stack.ask_sandbox("GET", "counters").json()
    books.token_requests, books.calls = counters["token_requests"], counters["calls"]


def _out_of_time(stack: Stack, pending: Sequence[Message]) -> Iterator[str]:
    yield f"After {WAIT_SECONDS:.0f} s these have not ended:"
    for message in pending:
        yield f"  {message.file}: {message.missing} submissions, sent by {message.way}"
    said = [line for line in logs(stack, follow=False) if "WARNING" in line or "ERROR" in line]
    yield "The functions complain of nothing." if not said else "What the functions complain of:"
    yield from (f"  {line}" for line in said)


def _note(stack: Stack, books: Books, states: Iterable[str]) -> None:
    """Note what is among the dead letters and what the relay has in these states, each with the message it is of."""
    pending = [message for message in books.messages if message.missing]
    waiting = {(message.kind, loan_id): message for message in pending for loan_id in message.things}
    known = {(message.kind, each["reference"]) for message in books.messages for each in message.submissions.values()}
    for kind in KINDS.values():
        for body, reason in _dead_letters(stack, kind):
            if found := next((each for each in pending if each.way == "SQS" and each.body == body), None):
                found.dead_letter = reason
            else:
                books.strangers.add(f"{kind}: a dead letter that nobody sent ({reason})")
        for submission in chain.from_iterable(_submissions(stack, kind, state) for state in states):
            if (kind, submission["reference"]) in known:
                continue
            if found := waiting.get((kind, submission["loan_id"])):
                found.submissions[submission["loan_id"]] = submission
            else:
                books.strangers.add(f"{kind} {submission['reference']} is {submission['state']}, but nobody sent it")


def _submissions(stack: Stack, kind: str, state: str) -> Iterator[Submission]:
    query = {"kind": kind, "state": state}
    while True:
        response = stack.call("GET", f"/submissions?{urlencode(query)}")
        if not response.ok:
            raise StackError(f"GET /submissions answered {response.status_code}: {response.text[:500]}")
        page = response.json()
        yield from page["submissions"]
        if "cursor" not in page:
            return
        query["cursor"] = page["cursor"]


def _dead_letters(stack: Stack, kind: str) -> Iterator[tuple[str, str]]:
    """Take the dead letters of a kind out of their queue: body and reason of each."""
    sqs = stack.client("sqs")
    queue = stack.dead_letter_queues[kind]
    taken = {"QueueUrl": queue, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
    while letters := sqs.receive_message(**taken).get("Messages"):
        for letter in letters:
            yield letter["Body"], letter.get("MessageAttributes", {}).get("Reason", {}).get("StringValue", "none given")
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=letter["ReceiptHandle"])


def main() -> int:
    """Run it; 0 when all ended as it should, 1 with a line for each thing that did not."""
    fit_every_terminal()
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    started = time.monotonic()
    try:
        with running(state=STATE, parameters={"CsvColumns": "2"}) as stack:
            books = perform(stack, console)
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1
    except (requests.RequestException, BotoCoreError, ClientError) as problem:
        print(f"The stack does not answer as it should: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything was stopped.", file=sys.stderr)
        return 130
    console.print()
    show(books, console)
    console.print(f"{'In all':<16}{time.monotonic() - started:.0f} s\n")
    if wrong := list(mistakes(books, (EVENTS / "README.md").read_text(encoding="utf-8"))):
        print("Not as it should be:", *wrong, sep="\n  ")
        return 1
    print("All as it should be: every submission is at Kiva exactly once, and nothing else is.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
