import pytest

from kiva_partner.breaker import Breaker
from kiva_partner.errors import NotSent
from kiva_partner.messages import Kind
from kiva_partner.sending import Sending

DRAFT, JOURNAL, REPAYMENT = Kind
ANSWER, DOUBT = True, False


class Environment:
    """One execution environment: its own breaker over the shared row, and whether Kiva answers its read."""

    def __init__(self, table, clock):
        self.sending = Sending(lambda: table, "ledger", "stage#9001", clock=clock)
        self.breaker = Breaker(self.sending, clock=clock, sleep=clock.sleep)
        self.kiva_answers = True
        self.reads = 0

    def read(self):
        self.reads += 1
        return self.kiva_answers

    def enter(self, kind=DRAFT):
        self.sending.check(kind)
        return self.breaker.enter(kind, 320, self.read)

    def call(self, *answers, kind=DRAFT):
        """Enter, make calls with these answers, and say so; gives whether it is open from now on."""
        return self.breaker.note(kind, answers, trial=self.enter(kind))

    def wait(self, kind=DRAFT):
        """The seconds that one who wants to send is told to wait."""
        with pytest.raises(NotSent) as raised:
            self.enter(kind)
        return raised.value.retry_after


@pytest.fixture
def here(table, clock):
    return Environment(table, clock)


@pytest.fixture
def there(table, clock):
    return Environment(table, clock)


def test_it_lets_everything_through_and_writes_nothing_while_kiva_answers(here, table):
    assert here.call(ANSWER, ANSWER) is False
    assert here.enter() is False
    assert here.reads == 0
    assert "circuits" not in table.get_item(TableName="ledger", Key={"pk": {"S": "stage#9001#sending"}})["Item"]


def test_three_doubts_in_a_row_open_it_whoever_had_them(here, there):
    assert here.call(DOUBT) is False
    assert there.call(DOUBT) is False
    assert here.call(DOUBT) is True
    assert there.wait() == 60


def test_calls_in_parallel_count_one_by_one(here):
    assert here.call(ANSWER, DOUBT, DOUBT, DOUBT, ANSWER) is True


def test_an_answer_between_doubts_starts_the_count_anew(here, there):
    here.call(DOUBT, DOUBT)
    there.call(ANSWER)
    assert here.call(DOUBT, DOUBT) is False
    assert here.call(ANSWER, DOUBT) is False
    assert here.call(DOUBT) is False
    assert here.call(DOUBT) is True


def test_nothing_sent_or_nothing_processed_counts_neither_way(here):
    here.call(DOUBT, DOUBT)
    here.call()
    assert here.call(DOUBT) is True


def test_while_it_is_open_the_calls_under_way_change_nothing(here, there):
    there.enter()
    here.call(DOUBT, DOUBT, DOUBT)
    there.breaker.note(DRAFT, [ANSWER], trial=False)
    assert here.wait() == 60


def test_after_the_pause_one_environment_tries_and_the_others_wait(here, there, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(61)
    assert there.enter() is True
    assert there.reads == 1
    assert here.wait() == pytest.approx(320)
    assert there.breaker.note(DRAFT, [ANSWER], trial=True) is False
    assert here.enter() is False


def test_a_trial_whose_read_fails_sends_nothing_and_waits_twice_as_long(here, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    here.kiva_answers = False
    for seconds in (120, 240, 480, 960, 1920, 3600, 3600):
        clock.advance(4000)
        assert here.wait() == seconds
    assert here.reads == 7


def test_a_trial_that_leaves_a_doubt_opens_it_for_longer(here, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(61)
    assert here.call(DOUBT) is True
    assert here.wait() == 120


def test_a_trial_that_died_is_over_after_its_time(here, there, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(61)
    assert here.enter() is True
    clock.advance(321)
    assert there.enter() is True


def test_a_trial_in_which_nothing_was_sent_is_free_again(here, there, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(61)
    assert here.call() is True
    clock.advance(61)
    assert there.enter() is True


def test_of_two_that_want_the_trial_at_once_one_has_it(here, there, clock, monkeypatch):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(61)
    seen = there.sending.read()
    assert here.enter() is True
    monkeypatch.setattr(there.sending, "read", lambda **_: seen)
    assert there.wait() == 60
    assert there.reads == 0


def test_after_it_closed_it_takes_three_doubts_again_and_the_pauses_start_anew(here, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(61)
    here.call(ANSWER)
    assert here.call(DOUBT, DOUBT) is False
    assert here.call(DOUBT) is True
    assert here.wait() == 60


def test_each_kind_has_its_own(here):
    here.call(DOUBT, DOUBT, DOUBT, kind=JOURNAL)
    assert here.enter(DRAFT) is False
    assert here.wait(JOURNAL) == 60


def test_while_one_kind_is_open_a_single_doubt_opens_another(here):
    here.call(DOUBT, DOUBT, DOUBT, kind=JOURNAL)
    assert here.call(DOUBT, kind=DRAFT) is True
    assert here.call(ANSWER, kind=REPAYMENT) is False


def test_doubts_at_the_same_moment_are_all_counted(here, there, monkeypatch):
    """Two environments read the same state: the second write finds that it is no longer that, and counts on top."""
    seen, read = here.sending.read(), there.sending.read
    here.call(DOUBT)
    answers = iter([seen])
    monkeypatch.setattr(there.sending, "read", lambda **_: next(answers, None) or read())
    there.breaker.note(DRAFT, [DOUBT], trial=False)
    assert here.call(DOUBT) is True


def test_it_tells_which_kinds_are_not_sent(here, there, clock):
    assert there.sending.standing().open_until == {}
    here.call(DOUBT, DOUBT)
    assert there.sending.standing().open_until == {}
    here.call(DOUBT)
    assert there.sending.standing().open_until.keys() == {DRAFT}
    here.call(DOUBT, kind=REPAYMENT)
    assert there.sending.standing().open_until.keys() == {DRAFT, REPAYMENT}
    clock.advance(61)
    assert here.call(ANSWER) is False
    assert there.sending.standing().open_until.keys() == {REPAYMENT}


def test_it_is_open_until_somebody_has_tried_for_as_long_as_a_message_may_wait(here, there, clock):
    here.call(DOUBT, DOUBT, DOUBT)
    clock.advance(60 + 3599)
    assert there.sending.standing().open_until.keys() == {DRAFT}
    clock.advance(1)
    assert there.sending.standing().open_until == {}
