"""Trouble with the token delays submissions: none is lost, none is doubled, and none waits for a person."""

import json
import random
import threading
import time
from itertools import count

import pytest

from deployment import ENVIRONMENT, TABLE, credentials
from fakes import MemoryStore
from faults.bookkeeping_kiva import End
from faults.extent import WHOLE
from faults.in_process import DynamoDb
from faults.stage import concurrency, parallel_calls
from kiva_answers import token_answer
from kiva_partner.errors import SubmissionError
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.settings import Settings
from kiva_partner.tokens import SCOPES, Credentials, Lease, TokenProvider

HOUR = 3600
ENVIRONMENTS = sum(concurrency(kind) for kind in Kind) + 1
EVENTS = 60 if WHOLE else 20
"""Of each kind."""


@pytest.fixture
def line(tally):
    random.seed(3)
    with tally("Token") as line:
        yield line


@pytest.fixture
def used(stage):
    """A stage that has had its token for an hour, with all environments warm."""
    stage.keep_house()
    for kind in Kind:
        stage.send(kind, *(f"warm-{number}" for number in range(50)))
    stage.kiva.before = stage.deliver_meanwhile
    stage.deliver(HOUR)
    assert stage.kiva.token_requests == 1
    return stage


def send(stage):
    sent = {(kind, f"L-{number}") for kind in Kind for number in range(EVENTS)}
    for kind, loan in sorted(sent):
        stage.send(kind, loan)
    return sent


def waiting(stage):
    return sum(len(queue.messages) for queue in stage.queues.values())


def balance(stage, line, sent):
    """All were accepted, each once, and nobody was troubled."""
    accepted, processed = stage.loans(State.ACCEPTED), stage.kiva.processed
    dead = [message for queue in stage.queues.values() for message in (*queue.dead_letters.messages, *queue.expired)]
    lost = {each for each in sent if each not in accepted or not processed[each]}
    doubled = [each for each, times in processed.items() if times > 1]
    line.add(len(sent), lost=len(lost) + len(dead), doubled=len(doubled), wrong=len(stage.loans(State.UNKNOWN)))
    assert (lost, dead, doubled, stage.loans(State.UNKNOWN), waiting(stage)) == (set(), [], [], set(), 0)


def test_a_token_that_is_refused_once_is_replaced_once(used, line):
    used.kiva.revoke_tokens()
    sent = send(used)
    used.deliver(2 * HOUR)
    assert used.kiva.token_requests == 2
    balance(used, line, sent)


@pytest.mark.parametrize("end", [End.UNAUTHORISED, End.FORBIDDEN])
def test_a_refusal_of_one_call_costs_one_token(used, line, end):
    ends = iter([end])
    used.kiva.ends = lambda path: next(ends, End.ACCEPTED)
    sent = send(used)
    used.deliver(2 * HOUR)
    assert used.kiva.token_requests == 2
    balance(used, line, sent)


@pytest.mark.parametrize("end", [End.UNAUTHORISED, End.FORBIDDEN])
def test_while_every_token_is_refused_all_wait_and_few_ask(used, line, end):
    used.kiva.ends = lambda path: end
    posts, tokens = used.kiva.posts, used.kiva.token_requests
    sent = send(used)
    used.deliver(6 * HOUR)
    assert used.loans(State.UNKNOWN, State.REJECTED, State.SENDING) == set()
    assert waiting(used) == len(sent)
    asked = used.kiva.token_requests - tokens
    assert asked <= ENVIRONMENTS * 6 * 60
    # Each token, and the one before it, is tried once by whoever is at work at that moment.
    at_once = sum(concurrency(kind) * parallel_calls(kind) for kind in Kind)
    assert used.kiva.posts - posts <= at_once * (asked + 1)
    used.kiva.ends = lambda path: End.ACCEPTED
    used.deliver(2 * HOUR)
    balance(used, line, sent)


def test_a_rotated_secret_delays_until_it_is_put_into_the_store_and_loses_nothing(used, line):
    used.kiva.secret = "canary-rotated"
    used.kiva.revoke_tokens()
    sent = send(used)
    used.deliver(HOUR)
    assert used.loans(State.SENDING, State.UNKNOWN, State.REJECTED) == set()
    assert waiting(used) == len(sent)
    used.secrets.put_secret_value(
        SecretId=ENVIRONMENT["KIVA_CREDENTIALS_SECRET"],
        SecretString=credentials("canary-rotated"),
    )
    used.deliver(2 * HOUR)
    balance(used, line, sent)


def test_two_live_secrets_while_one_is_rotated_cost_no_submission(used, line):
    """Stored while the old one is live; revoked before or after; stored before Kiva takes it: nothing ever waits."""
    old, new = used.kiva.secret, "canary-rotated"
    used.secrets.put_secret_value(SecretId=ENVIRONMENT["KIVA_CREDENTIALS_SECRET"], SecretString=credentials(new))
    sent = set()
    for number, live in enumerate(({old}, {old, new}, {new})):
        used.kiva.secrets = live
        used.kiva.revoke_tokens()
        for kind in Kind:
            used.send(kind, *(f"L-{number}-{loan}" for loan in range(EVENTS)))
            sent |= {(kind, f"L-{number}-{loan}") for loan in range(EVENTS)}
        used.deliver(2 * 60)
        assert waiting(used) == 0, live
    assert used.kiva.token_requests == 1 + 2 + 1 + 1  # only where it was stored too early were both tried
    balance(used, line, sent)


def test_while_the_token_service_is_down_in_the_last_hour_the_old_token_serves(used, line):
    """Nobody waits, though every environment tries to renew: once a minute each, at most."""
    used.deliver(10 * HOUR)
    used.kiva.token_answers = lambda: 503
    before = used.kiva.token_requests
    sent = set()
    for minute in range(55):
        for kind in Kind:
            used.send(kind, f"L-{minute}")
            sent.add((kind, f"L-{minute}"))
        used.deliver(60)
        assert waiting(used) == 0
    minutes_in_the_early_window = 15
    tries = used.kiva.token_requests - before
    assert 10 <= tries <= ENVIRONMENTS * minutes_in_the_early_window + 12
    used.kiva.token_answers = lambda: 200
    used.deliver(HOUR)
    balance(used, line, sent)


@pytest.mark.parametrize("answer", [None, 503, 429, 400, 401])
def test_without_any_token_nothing_is_claimed_and_all_wait(stage, line, answer):
    stage.kiva.token_answers = lambda: answer
    sent = send(stage)
    stage.deliver(HOUR)
    assert stage.rows() == []
    assert (waiting(stage), stage.kiva.posts) == (len(sent), 0)
    assert stage.kiva.token_requests <= ENVIRONMENTS * 60
    stage.kiva.token_answers = lambda: 200
    stage.deliver(2 * HOUR)
    balance(stage, line, sent)


@pytest.mark.parametrize("missing", list(Kind))
def test_what_needs_a_scope_that_is_not_granted_waits_for_it_and_nothing_else_does(stage, line, missing):
    stage.kiva.scopes = set(SCOPES) - {missing.scope}
    sent = send(stage)
    stage.deliver(2 * HOUR)
    assert {kind for kind, _ in stage.loans(State.ACCEPTED)} == {*Kind} - {missing}
    assert waiting(stage) == EVENTS
    assert stage.kiva.token_requests == 1 + len(SCOPES) + 1
    stage.deliver(10 * HOUR)
    assert stage.kiva.token_requests == 1 + len(SCOPES) + 1 + 1  # the renewal knows what is granted
    stage.kiva.scopes.add(missing.scope)
    stage.deliver(12 * HOUR)
    assert stage.kiva.token_requests == 1 + len(SCOPES) + 1 + 1 + 1
    balance(stage, line, sent)


def test_fifty_cold_environments_one_after_the_other_ask_once(stage, line):
    for number in range(50):
        kind = list(Kind)[number % 3]
        stage.send(kind, f"L-{number}")
        records = stage.queues[kind].receive(10)
        answer = stage.new(kind)({"Records": records})
        line.add(1, wrong=len(answer["batchItemFailures"]))
        assert answer == {"batchItemFailures": []}
    assert stage.kiva.token_requests == 1


def test_fifty_cold_environments_at_the_same_moment_ask_twice_at_most_and_all_go_on(line):
    """Real time and real threads; the token service takes 0.2 s."""
    settings = Settings.from_environment(ENVIRONMENT)
    store, table, asked, got = MemoryStore(), DynamoDb(), count(), []
    together = threading.Barrier(50)
    answer = token_answer("t")

    def ask(url, form, seconds):
        next(asked)
        time.sleep(0.2)
        return 200, json.dumps(answer).encode()

    def environment():
        lease = Lease(lambda: table, TABLE, "lease", time.time)
        provider = TokenProvider(settings, store, lease, lambda: [Credentials("c", "s", "v1")], ask)
        together.wait()
        try:
            got.append(provider.get(Kind.LOAN_DRAFT.scope).value)
        except SubmissionError as error:
            got.append(error)

    threads = [threading.Thread(target=environment) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    line.add(50, wrong=sum(each != "t" for each in got))
    assert got == ["t"] * 50
    assert next(asked) <= 2


def test_a_day_of_work_takes_three_tokens_and_nobody_waits_for_one(stage, line):
    hours, step = 13, 60 if WHOLE else 600
    sent = set()
    for number in range(hours * HOUR // step):
        for kind in Kind:
            stage.send(kind, f"L-{number}")
            sent.add((kind, f"L-{number}"))
        stage.deliver(step)
    assert all(response == {"batchItemFailures": []} for source in stage.sources for response in source.responses)
    assert stage.kiva.token_requests <= 3
    balance(stage, line, sent)
