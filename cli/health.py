"""`relay health`: how a stack stands right now; for each line a verdict, and what to do next.

The relay's API tells what it knows, and AWS the rest, asked with the operator's own credentials. What these may not
look at is said, and fails nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cli.relay_api import NoAnswer, Refused
from cli.show import NOUNS, Line, moment, span
from cli.stacks import DEAD_LETTERS, KINDS, NoSuchStack, StackOfStage, messages_in, most_of_the_hour
from kiva_partner.errors import NotConfigured
from kiva_partner.housekeeping import FEWEST_REFUSED, RUN_SECONDS

HOUSEKEEPING_LATE: Final = timedelta(seconds=3 * RUN_SECONDS)
"""Three of its runs."""
DIGEST_LATE: Final = timedelta(hours=76)
"""It comes on weekdays: from Friday to Monday 72 hours go by."""
WAITS_LONG: Final = timedelta(hours=1)
TOKEN_ENDS_SOON: Final = timedelta(minutes=45)
"""Housekeeping renews in the last hour, every five minutes."""

NOT_CONFIGURED: Final = str(NotConfigured()).partition(":")[0]
"""How the reason begins on a fresh stack, which waits for its credentials: nothing is wrong with it."""


class Health:
    """Looks at one stack. `now` is in UTC."""

    def __init__(self, stack: StackOfStage, stage: str, now: datetime) -> None:
        self._stack = stack
        self._stage = stage
        self._now = now
        self.is_answered = True
        """Whether the relay's API has told what it knows."""

    def lines(self) -> Iterator[Line]:
        """What the API tells, then what AWS does."""
        try:
            told = self._stack.api.get("health")
        except (NoAnswer, Refused) as error:
            self.is_answered = False
            yield Line("api", "bad", f"does not tell how the stack stands: {error}", self._command("check"))
        else:
            yield from self._told(told)
        for name, right, look in (
            ("queues", "sqs:GetQueueAttributes", self._queues),
            ("dead letters", "sqs:GetQueueAttributes", self._dead_letters),
            ("alarms", "cloudwatch:DescribeAlarms and cloudformation:ListStackResources", self._alarms),
        ):
            yield from _as_far_as_allowed(name, right, look)

    # --- what the API tells ---

    def _told(self, told: Mapping[str, Any]) -> Iterator[Line]:
        try:
            yield from self._of_api(told)
        except KeyError:
            step = self._command("deploy")
            yield Line("api", "look", "the stack is of another version than this command, and tells other things", step)

    def _of_api(self, told: Mapping[str, Any]) -> Iterator[Line]:
        run = told["housekeeping"]
        yield self._token(told["token"], str(run.get("result", {}).get("token", "")))
        if told["restored"]:
            heading = 'docs/runbook.md, "The table was restored"'
            yield Line("restored", "bad", "the ledger was restored from a backup: nothing is sent", heading)
        kinds = {each["kind"]: each for each in told["kinds"]}
        for name, look, fine in (
            ("pauses", self._pause, "nothing is paused"),
            ("circuits", self._circuit, "all are closed"),
            ("waiting", self._waiting, "nothing waits to be sent"),
            ("unknown", self._unknown, "no outcome is UNKNOWN"),
            ("stuck", self._stuck, "nothing is STUCK"),
            ("refused", self._refused, "Kiva has refused nothing within the hour"),
        ):
            found = [line for kind, each in kinds.items() for line in look(kind, each)]
            yield from found or [Line(name, "ok", fine)]
        yield self._housekeeping(run)
        yield self._digest(told["digest"])

    def _token(self, token: Mapping[str, Any], renewal: str) -> Line:
        """`renewal` is what the last run of housekeeping says of the token."""
        failure = "" if renewal in ("", "kept", "renewed") else renewal
        step = self._command("credentials" if failure.startswith(NOT_CONFIGURED) else "check")
        if problem := token.get("problem"):
            return Line("token", "bad", problem, step)
        if "expires_at" not in token:
            is_wrong = failure and not failure.startswith(NOT_CONFIGURED)
            return Line("token", "bad" if is_wrong else "look", f"there is none yet{_because(failure)}", step)
        ends = datetime.fromisoformat(token["expires_at"])
        if ends <= self._now:
            return Line("token", "bad", f"the last one ended at {self._at(ends)}{_because(failure)}", step)
        lasts = f"lasts until {self._at(ends)}"
        if failure or ends - self._now < TOKEN_ENDS_SOON:
            return Line("token", "look", f"{lasts}, and is not renewed{_because(failure)}", step)
        if missing := token.get("scopes_missing"):
            return Line("token", "look", f"{lasts}; not granted: {', '.join(missing)}; what needs that waits", step)
        return Line("token", "ok", lasts)

    def _pause(self, kind: str, told: Mapping[str, Any]) -> Iterator[Line]:
        if word := told.get("paused"):
            since = self._at(datetime.fromisoformat(word["at"]))
            detail = f"{_noun(kind)} are paused since {since} by {word['by']}: {word['reason']}"
            yield Line("pauses", "look", detail, self._command("resume", kind, "--reason", "…"))

    def _circuit(self, kind: str, told: Mapping[str, Any]) -> Iterator[Line]:
        if "open_until" in told:
            until = datetime.fromisoformat(told["open_until"])
            ends = f"until {self._at(until)}" if until > self._now else "until one that is tried is answered"
            detail = f"Kiva leaves doubts: no {_noun(kind)} are sent {ends}"
            yield Line("circuits", "look", detail, "wait: it goes on by itself when Kiva is back")

    def _waiting(self, kind: str, told: Mapping[str, Any]) -> Iterator[Line]:
        found = [(state, told[state]) for state in ("queued", "retry") if state in told]
        if not found:
            return
        oldest = min(each["since"] for _, each in found)
        is_long = self._now - datetime.fromisoformat(oldest) > WAITS_LONG
        detail = f"{_noun(kind)}: {', '.join(f'{_count(each)} {state.upper()}' for state, each in found)}"
        detail += f", the oldest for {self._since(oldest)}"
        detail += "".join(f"; the last try: {each['reason']}" for _, each in found if each.get("reason"))
        step = self._command("list", "--state", found[-1][0].upper(), "--kind", kind)
        yield Line("waiting", "look", detail, step) if is_long else Line("waiting", "ok", detail)

    def _unknown(self, kind: str, told: Mapping[str, Any]) -> Iterator[Line]:
        if unknown := told.get("unknown"):
            calls = f"{unknown['calls']} {'call' if unknown['calls'] == 1 else 'calls'}"
            rows = f"{_count(unknown)} {'submission' if unknown['submissions'] == 1 else 'submissions'}"
            detail = f"{_noun(kind)}: {calls} ({rows}), for {self._since(unknown['since'])}"
            decidable = datetime.fromisoformat(unknown["decidable_at"])
            detail += "" if decidable <= self._now else f"; to be decided from {self._at(decidable)} on"
            yield Line("unknown", "look", detail, self._command("list", "--state", "UNKNOWN", "--kind", kind))

    def _stuck(self, kind: str, told: Mapping[str, Any]) -> Iterator[Line]:
        if stuck := told.get("stuck"):
            detail = f"{_noun(kind)}: {_count(stuck)} that Kiva has not, for {self._since(stuck['since'])}"
            yield Line("stuck", "bad", detail, self._command("list", "--state", "STUCK", "--kind", kind))

    def _refused(self, kind: str, told: Mapping[str, Any]) -> Iterator[Line]:
        if refused := told.get("refused"):
            detail = f"{_noun(kind)}: {_count(refused)} within the hour"
            step = self._command("list", "--state", "REJECTED", "--kind", kind)
            many = refused["submissions"] >= FEWEST_REFUSED
            yield Line("refused", "look", detail, step) if many else Line("refused", "ok", detail)

    def _housekeeping(self, run: Mapping[str, Any]) -> Line:
        step = 'docs/runbook.md, "Housekeeping does not run"'
        if not run:
            return Line("housekeeping", "look", "has not ended a run yet; it comes every five minutes", step)
        ended = datetime.fromisoformat(run["ended_at"])
        detail = f"ended its last run {span(self._now - ended)} ago"
        is_late = self._now - ended > HOUSEKEEPING_LATE
        return Line("housekeeping", "bad" if is_late else "ok", detail, step if is_late else "")

    def _digest(self, run: Mapping[str, Any]) -> Line:
        if not run:
            return Line("digest", "ok", "there was none yet; it comes on weekdays at 06:00 UTC")
        ended = datetime.fromisoformat(run["ended_at"])
        is_late = self._now - ended > DIGEST_LATE
        step = 'docs/runbook.md, "A function fails"'
        detail = f"the last one was made {span(self._now - ended)} ago"
        return Line("digest", "look" if is_late else "ok", detail, step if is_late else "")

    # --- what AWS tells ---

    def _queues(self) -> Iterator[Line]:
        sqs = self._stack.client("sqs")
        is_empty = True
        for kind, prefix in KINDS.items():
            visible, hidden, delayed = messages_in(sqs, self._stack.output(f"{prefix}QueueUrl"))
            if visible + hidden + delayed:
                is_empty = False
                detail = f"{_noun(kind)}: {visible + delayed} wait, {hidden} in flight or to be retried"
                yield Line("queues", "ok", detail)
        if is_empty:
            yield Line("queues", "ok", "all are empty")
        else:
            yield from _as_far_as_allowed("oldest message", "cloudwatch:GetMetricStatistics", self._oldest)

    def _oldest(self) -> Iterator[Line]:
        """SQS's own metric passes over what was received three times, so the consumers tell it, at each delivery."""
        cloudwatch = self._stack.client("cloudwatch")
        # Each is delivered within the hour.
        told = most_of_the_hour(cloudwatch, self._now, "KivaRelay", "OldestMessageSeconds", service=self._stack.name)
        oldest = timedelta(seconds=told or 0)
        if oldest > WAITS_LONG:
            detail = f"of the messages of the last hour one was {span(oldest)} old"
            yield Line("oldest message", "look", detail, 'docs/runbook.md, "Messages wait too long"')

    def _dead_letters(self) -> Iterator[Line]:
        sqs = self._stack.client("sqs")
        found = False
        for name, output in DEAD_LETTERS.items():
            if number := sum(messages_in(sqs, self._stack.output(output))):
                found = True
                yield Line("dead letters", "bad", f"{_noun(name)}: {number}", self._command("deadletters", name))
        if not found:
            yield Line("dead letters", "ok", "there are none")

    def _alarms(self) -> Iterator[Line]:
        cloudwatch, names = self._stack.client("cloudwatch"), self._stack.resources("AWS::CloudWatch::Alarm")
        ringing = False
        for some in batched(names.values(), 100):  # as many as DescribeAlarms gives at once
            for alarm in cloudwatch.describe_alarms(AlarmNames=list(some))["MetricAlarms"]:
                if alarm["StateValue"] != "ALARM":
                    continue
                ringing = True
                detail, _, heading = alarm["AlarmDescription"].partition(" docs/runbook.md: ")
                since = f" (for {span(self._now - alarm['StateUpdatedTimestamp'].astimezone(UTC))})"
                yield Line("alarm", "bad", detail + since, f"docs/runbook.md, {heading}")
        if not ringing:
            yield Line("alarms", "ok", f"none of {len(names)} rings")

    # --- words ---

    def _command(self, *words: str) -> str:
        return " ".join(["relay", *words, "--stage", self._stage])

    def _at(self, when: datetime) -> str:
        return moment(when, self._now)

    def _since(self, text: str) -> str:
        return span(self._now - datetime.fromisoformat(text))


def _as_far_as_allowed(name: str, right: str, look: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    try:
        yield from look()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        may_not = re.search("AccessDenied|Unauthorized|NotAuthorized", code)
        step = f"ask for {right}" if may_not else ""
        yield Line(name, "unseen", f"{'you may not look' if may_not else 'AWS does not tell'} ({code})", step)
    except NoSuchStack as error:  # of another version
        yield Line(name, "unseen", str(error))
    except BotoCoreError as error:
        yield Line(name, "unseen", f"AWS does not answer: {type(error).__name__}")


def _noun(name: str) -> str:
    return NOUNS.get(name, name).lower()


def _count(told: Mapping[str, Any]) -> str:
    return f"{told['submissions']}{'+' if told.get('more') else ''}"


def _because(failure: str) -> str:
    return f": {failure}" if failure else ""
