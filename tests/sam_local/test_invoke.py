"""Every function, with every file of events/ that is for it: `sam local invoke`."""

import json
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from rich.console import Console

from local import demo
from local.books import Books, Message, Reading, mistakes
from sam_local.sam import ENDS, EVENTS, FED_BY, FILES, feeds

AGAIN = [
    EVENTS / name
    for name in (
        "api/loan_draft_wait.json",
        "sqs/loan_draft_group.json",
        "sqs/journal_updates.json",
        "sqs/repayments.json",
    )
]
"""One of each way in and of each kind."""


def name(file):
    return file.relative_to(EVENTS).as_posix()


def sends(file):
    return name(file).startswith("sqs/") or feeds(file).removeprefix("POST /") in demo.KINDS


@pytest.fixture(scope="session")
def invocations(sam):
    """Every file, two at a time: first what sends something, then what asks for it and what comes again."""
    pool = ThreadPoolExecutor(2)

    def invoke(file):
        return pool.submit(sam.invoke, FED_BY[feeds(file)], file)

    def invoke_later(file):
        return pool.submit(lambda: wait(first.values()) and sam.invoke(FED_BY[feeds(file)], file))

    first = {file: invoke(file) for file in FILES if sends(file)}
    later = {file: invoke_later(file) for file in FILES if not sends(file)}
    again = {file: invoke_later(file) for file in AGAIN}
    yield first | later, again
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def once(invocations):
    return invocations[0]


@pytest.fixture(scope="session")
def again(invocations):
    return invocations[1]


def as_promised(answer):
    """Whether it answers what the table of events/README.md promises; what became of it all is seen in the end."""
    match answer.file.partition("/")[0]:
        case "api":
            return answer.document["statusCode"] == int(ENDS[answer.file][:3])
        case "sqs" | "stream":
            return answer.document == {"batchItemFailures": []}
        case _:
            return "errorMessage" not in answer.document


def said(answer):
    return str(answer.document.get("statusCode") or demo.said(answer.document))


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_function_answers_what_the_table_of_events_promises(once, tell, file):
    answer = once[file].result()

    tell(answer.function, answer.file, said(answer), answer.seconds)
    assert as_promised(answer), said(answer)


@pytest.mark.parametrize("file", AGAIN, ids=name)
def test_a_file_that_comes_again_is_answered_as_before(again, tell, file):
    answer = again[file].result()

    tell(answer.function, f"{answer.file}, again", said(answer), answer.seconds)
    assert as_promised(answer), said(answer)


def test_housekeeping_did_what_its_line_in_the_table_says(once):
    done = once[EVENTS / "schedule" / "housekeeping.json"].result().document

    assert done.pop("token") == "kept"
    assert done.pop("catalogue") in ("fetched", "kept")
    assert set(done.values()) == {0}


def test_the_digest_tells_what_waits(once):
    assert "to publish in PA2" in once[EVENTS / "schedule" / "digest.json"].result().document["digest"]


def test_in_the_end_everything_is_at_kiva_exactly_once_or_among_the_dead_letters(sam, once, again):
    books = Books()
    for file, future in once.items():
        enter(books, file, future.result().document)
    wait(again.values())

    demo.wait(sam.stack, books, "What containers took in", Console(quiet=True))
    demo.close(sam.stack, books)

    table = (EVENTS / "README.md").read_text().partition("## Reports")[0]
    assert list(mistakes(books, table)) == []


def enter(books, file, answer):
    """Note what was sent or read, as the demo does."""
    event = json.loads(file.read_text())
    if not sends(file):
        books.readings.append(Reading(name(file), feeds(file), answer.get("statusCode", 200), ""))
    elif "Records" in event:
        books.messages += [
            Message(name(file), "SQS", demo.KINDS[feeds(file)], record["body"]) for record in event["Records"]
        ]
    else:
        status = answer["statusCode"]
        refusal = json.loads(answer["body"]).get("title", "") if status >= 400 else ""
        kind = demo.KINDS[event["path"].removeprefix("/")]
        books.messages.append(Message(name(file), "API", kind, event["body"], status=status, refusal=refusal))
