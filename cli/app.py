"""The `relay` command: what an operator does by hand to a deployed stack, with their own AWS credentials."""

import getpass
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cache, partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table
from typer.core import TyperGroup

from cli import adopt as leftovers
from cli import missing as months
from cli import show
from cli.checks import checks_of
from cli.credentials import CannotStore, store
from cli.dead_letters import MOST_READ, DeadLetter, look
from cli.dead_letters import redrive as put_back
from cli.decide import ask, confirm, consequences, of_the_same_call
from cli.deploy import NotDeployed, Plan, execute, plan, refuse_what_cannot_be_meant, wanted
from cli.files import Bad, NoMonth, Ready, WrongUse, far_off, lacks_month, month_before, read
from cli.health import Health
from cli.init import NOTHING, optional, questions, value_of, written
from cli.pause import GAP, switch
from cli.relay_api import NoAnswer, Refused, RelayApi, every_loan, every_submission, whole
from cli.report import FINE, INTERRUPTED, PROBLEM, UNREACHABLE, WRONG, exit_code, mistakes, outcome
from cli.stacks import NoSuchStack, StackOfStage, project, stack_of, stages
from cli.submit import FORBIDDEN, doubts, follow, rules_of, send, unused, upload
from cli.templates import given, parameters_of
from cli.templates import read as read_template
from cli.verify import Verification
from kiva_partner.client import CONFIG_NAMES
from kiva_partner.decisions import Choice
from kiva_partner.errors import where
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.settings import PartnerRules

_HELP = """Submit events to kiva-relay, see what became of them, and decide what waits for you.

Exit codes:

* 0: all is well
* 1: something was refused, is missing, or needs you
* 2: wrong use or bad input; nothing was sent
* 3: the stack, its API or AWS cannot be reached, or does not let you in
* 4: not finished in time
* 130: interrupted, or you said no

After 3, 4 and 130 the same command may be repeated as it was: nothing is ever submitted twice.
"""
SUBMIT, LOOK, MEND, LIFE = "Submit", "Look", "Decide and mend", "A stack's life"
"""What the commands are for, as the help shows them."""
_LISTED: Final = 100
_LOAN: Final = {
    "Loan": "internal_loan_id",
    "Client": "internal_client_id",
    "Kiva's id": "kiva_id",
    "Status": "status",
    "Currency": "loan_currency",
    "Amount": "loan_local_price",
}
_INVALID: Final = 400
_NOT_FOUND: Final = 404


class Relay(TyperGroup):
    """Every command ends with an exit code, and what goes wrong in it with a line on standard error.

    Never with a traceback: the text of an error may hold what was being handled.
    """

    def main(self, *arguments: Any, **named: Any) -> Any:  # noqa: D102 typer's
        show.fit_every_terminal()
        return super().main(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 typer's
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(error, BrokenPipeError) or hasattr(error, "exit_code"):  # Typer's own: wrong use, or the end
                raise
            _end(*_trouble(error))
        except KeyboardInterrupt:
            _end(INTERRUPTED, "Interrupted. The same command may be repeated as it was.")


def _trouble(error: Exception) -> tuple[int, str]:
    """The exit code of an error, and what is said of it."""
    match error:
        case WrongUse():
            code, text = WRONG, str(error)
        case OSError():
            code, text = WRONG, f"{error.filename}: {error.strerror}"
        case Refused():
            code = UNREACHABLE if error.status in FORBIDDEN else WRONG if error.status == _INVALID else PROBLEM
            text = f"The relay does not do it: {error}"
        case CannotStore() | NotDeployed():
            code, text = PROBLEM, str(error)
        case NoSuchStack() | NoAnswer():
            code, text = UNREACHABLE, str(error)
        case ClientError() | BotoCoreError():
            code, text = UNREACHABLE, f"AWS says: {error}"
        case typer.Abort() | EOFError():
            code, text = INTERRUPTED, "Nothing was done."
        case _:
            code, text = PROBLEM, f"This is a fault of the command itself ({where(error)}). Please report it."
    return code, text


app = typer.Typer(
    cls=Relay, help=_HELP, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False
)


def _end(code: int, text: str) -> NoReturn:
    show.say("\n".join(show.harmless(line) for line in text.splitlines()))
    raise typer.Exit(code)


def _stages() -> list[str]:
    try:
        return stages()
    except NoSuchStack:
        return []


def _today() -> date:
    return datetime.now(UTC).date()


def _month(text: str) -> str:
    try:
        return text and f"{date.fromisoformat(f'{text}-01'):%Y-%m}"
    except ValueError:
        raise typer.BadParameter("must be a month (YYYY-MM)") from None


Stage = Annotated[
    str, typer.Option(help="Which stack: an environment of samconfig.toml.", autocompletion=_stages, show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
OfKind = Annotated[Kind | None, typer.Option(help="Of which kind; without it all three are looked at.")]
Month = Annotated[str, typer.Option(metavar="YYYY-MM", help="The reporting month.", callback=_month)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


# --- submit -----------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=SUBMIT)
def submit(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            readable=True,
            metavar="FILE",
            help="JSON of any kind (a message, a list of them, or .jsonl), or a CSV of repayments or of journals.",
        ),
    ],
    *,
    period: Annotated[
        str,
        typer.Option(
            metavar="YYYY-MM",
            help="The reporting month of all repayments. A message that says another is refused.",
            callback=_month,
        ),
    ] = "",
    reference: Annotated[
        str, typer.Option(help="Your own reference of the one message. A message that says another is refused.")
    ] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what is bad and send the rest.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the outcomes and show them.")] = False,
    wait_seconds: Annotated[int, typer.Option(min=1, help="How long to wait.")] = 300,
    yes: Yes = False,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Check files of events, upload their photos, and send them; repeating it is always safe.

    Every row is sent or is named with what to fix. A month far from today is asked about before anything is sent.
    """
    if reference and len(files) > 1:
        raise WrongUse("--reference names one message: give one file.")
    stack = stack_of(stage)
    ready, bad = _read(files, rules_of(stack), period, reference, may_ask=not yes)
    for line in mistakes(bad):
        show.say(line)
    if not ready or (bad and not skip_bad):
        outcome([], bad, wait=wait, as_json=as_json)
        raise typer.Exit(WRONG)
    if note := unused(ready, period):
        if not bad and all(each.kind is not Kind.REPAYMENT for each in ready):
            raise WrongUse(note)
        show.say(note)
    if not yes:
        _ask_about(list(doubts(ready, _today())))
    upload(stack, ready)
    api, sent = stack.api, []
    with show.progress(as_json=as_json) as bar:
        sending = bar.add_task("Sending messages", total=len(ready))
        for each in send(api, ready, time.sleep):
            sent.append(each)
            bar.advance(sending)
        if wait:
            total = sum(len(each.submissions) for each in sent)
            waiting = bar.add_task("Waiting for outcomes", total=total)
            for still_open in follow(api, sent, wait_seconds, time.monotonic, time.sleep):
                bar.update(waiting, completed=total - still_open)
    outcome(sent, bad, wait=wait, as_json=as_json)
    raise typer.Exit(exit_code(sent, bad, wait=wait))


def _read(
    files: Sequence[Path], rules: PartnerRules, period: str, reference: str, *, may_ask: bool
) -> tuple[list[Ready], list[Bad]]:
    """As `cli.files.read`. Where repayments have no month, somebody who can be asked is offered last month."""
    last = month_before(_today())
    try:
        ready, bad = read(files, rules, period=period, reference=reference)
        if not lacks_month(bad) or not (may_ask and show.somebody_answers()):
            return ready, bad
    except NoMonth as error:
        if not (may_ask and show.somebody_answers()):
            raise WrongUse(f"{error}. Of last month: --period {last}") from None
    if not typer.confirm(f"The repayments say no month. Are they of {last}?", err=True):
        raise WrongUse("Nothing was sent. Say of which month they are: --period YYYY-MM")
    return read(files, rules, period=last, reference=reference)


def _ask_about(doubtful: Sequence[str]) -> None:
    for line in doubtful:
        show.say(show.harmless(line))
    if doubtful and not show.somebody_answers():
        raise WrongUse("Nothing was sent. Correct the month; or, if it is meant so, say --yes.")
    if doubtful:
        typer.confirm("Is it meant so?", abort=True, err=True)


# --- look -------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=LOOK)
def status(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="Of a submission or of a message of several; or your id of a loan.")
    ],
    kind: OfKind = None,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Show everything that is known of a submission or a message; or what there is of a loan, by your own id of it."""
    api = stack_of(stage).api
    found = _of_reference(api, reference, kind)
    shown: list[Any] = []
    if not found:
        found = _of_loan(api, reference, kind)
        if not found:
            _end(PROBLEM, f"No submission and no message has the reference {reference}, and nothing is of such a loan.")
        show.say(show.harmless(f"No submission and no message has the reference {reference}; this is of the loan."))
        if len(found) > 1:
            shown.append(_table_of(found))
    for each in found if not shown else ():
        if "submissions" in each:
            group = show.Group(each["kind"], each["submissions"])
            shown += [show.outcomes([group], show.screen().width), *show.to_confirm(each["submissions"])]
            shown.append(f"Submissions: {show.totals(each['submissions'])}")
        else:
            shown.append(show.details(each))
    show.answer(found[0] if len(found) == 1 else found, *shown, as_json=as_json)


def _of_reference(api: RelayApi, reference: str, kind: Kind | None) -> list[dict[str, Any]]:
    """What has this reference, of one kind or of any."""
    found = []
    for each in [kind] if kind else Kind:
        try:
            found.append(whole(api, api.get("submissions", each, reference)))
        except Refused as error:
            if error.status != _NOT_FOUND:
                raise
    return found


def _of_loan(api: RelayApi, loan: str, kind: Kind | None) -> list[dict[str, Any]]:
    """What was submitted of a loan, the newest first."""
    return [each for each in every_submission(api, loan_id=loan) if kind in (None, each["kind"])]


def _table_of(submissions: Sequence[show.Submission]) -> Table:
    columns = {
        "Submission": "reference",
        "Kind": "kind",
        "Loan": "loan_id",
        "State": "state",
        "Changed (UTC)": "changed",
        "What comes next": "next_step",
    }
    shown = ({**each, "changed": each["updated_at"][:16].replace("T", " ")} for each in submissions)
    return show.rows("", columns, shown)


@app.command("list", rich_help_panel=LOOK)
def list_(
    state: Annotated[State | None, typer.Option(case_sensitive=False, help="In which state.")] = None,
    kind: OfKind = None,
    since: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="Changed on this day (UTC) or later.")] = "",
    loan: Annotated[str, typer.Option(help="All of a loan instead, by your own id of it.")] = "",
    period: Annotated[
        str, typer.Option(metavar="YYYY-MM", help="Repayments of this month alone, in any state.", callback=_month)
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Of each kind so many at most.")] = _LISTED,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """List submissions in a state, of a loan or of a month; the newest first."""
    if bool(state and loan) or not (state or loan or period):
        raise WrongUse("Give --state, --loan or --period; of the first two only one.")
    if period and kind not in (None, Kind.REPAYMENT):
        raise WrongUse("--period is for repayments: nothing else has a month.")
    api = stack_of(stage).api
    kinds = [Kind.REPAYMENT] if period else [kind] if kind else list(Kind)
    if loan:
        found = [it for it in _of_loan(api, loan, kind) if period in ("", it.get("period"))][:limit]
    else:
        # The relay finds by state alone, so a month is looked for in whole states.
        page: dict[str, str | int] = {"since": since, "limit": 1000 if period else min(limit, 1000)}
        every = (
            (it for it in every_submission(api, kind=each, state=one, **page) if period in ("", it.get("period")))
            for each in kinds
            for one in ([state] if state else State)
        )
        found = [it for some in every for it in islice(some, limit)]
    show.answer({"submissions": found}, _table_of(found), f"Submissions: {len(found)}", as_json=as_json)


@app.command(rich_help_panel=LOOK)
def loans(
    query: Annotated[str, typer.Option(help="A name, a loan id, a client id or a Kiva id.")] = "",
    status: Annotated[str, typer.Option(help="One of Kiva's statuses, such as payingBack.")] = "",
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Show so many at most.")] = _LISTED,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """List your loans at Kiva by their ids, without borrowers' names."""
    every = every_loan(stack_of(stage).api, offset, query=query, status=status)
    found = [{name: each.get(name) for name in _LOAN.values()} for each in islice(every, limit)]
    more = f"; more with --offset {offset + limit}" if len(found) == limit else ""
    show.answer({"loans": found}, show.rows("", _LOAN, found), f"Loans: {len(found)}{more}", as_json=as_json)


@app.command(rich_help_panel=LOOK)
def config(
    name: Annotated[str, typer.Argument(metavar="|".join(CONFIG_NAMES), autocompletion=lambda: list(CONFIG_NAMES))],
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Show one of Kiva's lists for you: what a loan draft may name."""
    if name not in CONFIG_NAMES:
        raise WrongUse(f"There is no list of that name; there are {', '.join(CONFIG_NAMES)}.")
    answered = stack_of(stage).api.get("config", name)
    found = [each for each in answered.get(name, []) if isinstance(each, dict)]
    columns = {field: field for each in found[:1] for field in each}
    show.answer(answered, show.rows("", columns, found), f"{name.capitalize()}: {len(found)}", as_json=as_json)


@app.command(rich_help_panel=LOOK)
def missing(
    period: Month,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """List loans that pay back without a repayment of a month at Kiva; exit code 1 when there are any.

    What is queued, being sent or UNKNOWN is shown as on its way, and is not missing. Neither is what was reported under
    a reference without a month: it is listed by itself, since it may be of this month. What is stuck or was
    refused is missing, and why is shown.
    """
    if away := far_off(period, _today()):
        show.say(away)
    month = months.look(stack_of(stage).api, period)
    ended = {"Stuck, refused or given up": "reference", "State": "state", "Why": "reason"}
    columns = _LOAN | (ended if any("state" in each for each in month.missing) else {})
    lost = [
        {name: each.get(name) for name in _LOAN.values()} | {it: each[it] for it in ended.values() if it in each}
        for each in month.missing
    ]
    document = {
        "period": period,
        "expected": month.expected,
        "missing": lost,
        "on_their_way": month.on_their_way,
        "without_month": month.without_month,
    }
    shown: list[Any] = []
    if month.on_their_way:
        of_these = {"Loan": "loan_id", "Submission": "reference", "State": "state", "What comes next": "next_step"}
        shown += [show.rows("On their way", of_these, month.on_their_way), ""]
    if month.without_month:
        of_these = {"Loan": "loan_id", "Submission": "reference", "State": "state", "Reported (UTC)": "created_at"}
        shown.append(show.rows("Reported without a month", of_these, month.without_month))
        shown += [f"They may be of {period}: give period in the message to count it.", ""]
    if lost:
        shown += [show.rows(f"Missing in {period}", columns, lost), ""]
    here = month.expected - len(lost) - len(month.on_their_way) - len(month.without_month)
    shown.append(
        f"{period}: of {month.expected} loans that pay back {here} are at Kiva,"
        f" {len(month.on_their_way)} on their way, {len(month.without_month)} reported without a month,"
        f" {len(lost)} missing"
    )
    show.answer(document, *shown, as_json=as_json)
    raise typer.Exit(PROBLEM if lost else FINE)


@app.command(rich_help_panel=LOOK)
def check(stage: Stage = "local", as_json: AsJson = False) -> None:
    """See that the stack, its API, its credentials and Kiva work together; exit code 1 when something does not."""
    described_once = cache(stack_of)
    checks = list(checks_of(described_once, stage))
    shown: list[Any] = [
        show.Line(it["name"], "ok" if it["ok"] else "bad", it["detail"], it.get("mend", "")) for it in checks
    ]
    if waiting := _needs_a_look(described_once, stage, checks):
        shown.append(f"Right now there is something to look at ({waiting}): relay health --stage {stage}")
    show.answer({"checks": checks}, *shown, as_json=as_json)
    raise typer.Exit(FINE if all(each["ok"] for each in checks) else PROBLEM)


def _needs_a_look(find: Callable[[str], StackOfStage], stage: str, checks: Sequence[Mapping[str, Any]]) -> str:
    """What of the state of a stack needs a look, in a few words; checks look at how it is configured."""
    if not all(each["ok"] for each in checks if each["name"] in ("stack", "api")):
        return ""
    lines = Health(find(stage), stage, datetime.now(UTC)).lines()
    return ", ".join(dict.fromkeys(each.name for each in lines if each.verdict in ("look", "bad")))


@app.command(rich_help_panel=LOOK)
def health(stage: Stage = "local", as_json: AsJson = False) -> None:
    """Show how the stack stands right now, and the next command where something needs you; exit code 1 if so."""
    look = Health(stack_of(stage), stage, datetime.now(UTC))
    lines = list(look.lines())
    show.answer({"lines": [asdict(each) for each in lines]}, *lines, as_json=as_json)
    if not look.is_answered:
        raise typer.Exit(UNREACHABLE)
    raise typer.Exit(PROBLEM if any(each.verdict in ("look", "bad") for each in lines) else FINE)


@app.command(rich_help_panel=LIFE)
def verify(
    *,
    draft: Annotated[
        bool, typer.Option("--draft", help="Submit one draft that says it is a test; not to production.")
    ] = False,
    yes: Yes = False,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Try a deployed stack from end to end, as after its deployment; exit code 1 when something is not as it should be.

    Sends an invalid message of each kind and finds it among the dead letters, calls every route, renews the token, runs
    housekeeping, hears an outcome's event, asks for the digest, looks at alarms, logs and write units, and asks for
    what must be refused. Kiva gets nothing of it, but with --draft one marked draft. What was made is removed.
    """
    stack = stack_of(stage)
    if draft and stack.output("KivaEnvironment") == "production":
        raise WrongUse("A draft that is none is for Kiva's test environment; leave out --draft.")
    if not yes:
        confirm(stack, "Four rows are written into the ledger and removed again; the coordinator may get a digest.")
    lines = []
    for line in Verification(stack).lines(draft=draft):
        lines.append(line)
        if not as_json:
            show.screen().print(line)
    counts = Counter(line.verdict for line in lines)
    told = f"{counts['ok']} as they should be, {counts['bad']} not, {counts['unseen']} that cannot be tried here"
    show.answer({"lines": list(map(asdict, lines))}, told, as_json=as_json)
    raise typer.Exit(PROBLEM if counts["bad"] else FINE)


# --- decide and mend --------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=MEND)
def decide(
    reference: Annotated[str, typer.Argument(metavar="REF", help="Of what is UNKNOWN, STUCK or REJECTED.")],
    decision: Annotated[
        Choice,
        typer.Argument(help="Kiva has it; has it not; it is not to be sent; or it was refused with nothing wrong."),
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why, in one line; it stays with the submission.")],
    kind: OfKind = None,
    kiva_reference: Annotated[str, typer.Option(help="Kiva's id of it, which goes with accepted alone.")] = "",
    excepted: Annotated[
        list[str] | None, typer.Option("--except", metavar="REF", help="Accepted, but not this one of its call.")
    ] = None,
    yes: Yes = False,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Say what is true of an UNKNOWN submission, reopen a REJECTED one (each with its call), or give up a STUCK one."""
    if excepted and decision is not Choice.ACCEPTED:
        raise WrongUse("--except belongs to accepted alone.")
    if (decision is Choice.ACCEPTED) != bool(kiva_reference):
        raise WrongUse("--kiva-reference is needed to say that Kiva accepted it, and belongs to nothing else.")
    stack = stack_of(stage)
    api = stack.api
    found = _of_reference(api, reference, kind)
    if not found:
        _end(PROBLEM, f"No submission and no message has the reference {reference}.")
    if len(found) > 1:
        raise WrongUse(f"{len(found)} submissions of different kinds have this reference: say which by --kind.")
    (submission,) = found
    if "submissions" in submission:
        raise WrongUse("This is a message of several submissions: give the reference of one of them.")
    if not yes:
        together = of_the_same_call(api, submission)
        confirm(stack, consequences(decision, kiva_reference, together, excepted or ()))
    body: dict[str, Any] = {"decision": decision, "reason": reason}
    body |= {"kiva_reference": kiva_reference} if kiva_reference else {}
    body |= {"except": excepted} if excepted else {}
    path = ("submissions", submission["kind"], submission["reference"], "decision")
    decided = api.post(*path, body=json.dumps(body).encode()).body
    group = show.Group(submission["kind"], decided.get("submissions") or [decided])
    show.answer(decided, show.outcomes([group], show.screen().width), as_json=as_json)


class Dead(StrEnum):
    """What dead letters can be of."""

    LOAN_DRAFT = Kind.LOAN_DRAFT.value
    JOURNAL_UPDATE = Kind.JOURNAL_UPDATE.value
    REPAYMENT = Kind.REPAYMENT.value
    OUTCOMES = "outcomes"


@app.command(rich_help_panel=LOOK)
def deadletters(
    of: Annotated[Dead | None, typer.Argument(metavar="KIND", help="Of which kind, or of outcomes; else all.")] = None,
    most: Annotated[int, typer.Option("--max", min=1, help="Read so many of each at most.")] = MOST_READ,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Read dead letters and leave them where they are; shown is the reason of each, and never its body."""
    stack, now = stack_of(stage), datetime.now(UTC)
    found = {each: look(stack, each, most) for each in ([of] if of else Dead)}
    columns = {
        "Dead letter of": "of",
        "Message": "message_id",
        "Reason": "reason",
        "First sent (UTC)": "first_sent",
        "Age": "age",
        "Deleted (UTC)": "deleted_on",
    }
    every = [letter for each in found.values() for letter in each.letters]
    shown: list[Any] = [show.rows("", columns, (_row_of(letter, now) for letter in every))] if every else []
    total = sum(each.total for each in found.values())
    shown.append(f"Dead letters: {total}" + (f", of which {len(every)} are shown" if total > len(every) else ""))
    if some := [name for name, each in found.items() if each.letters and name is not Dead.OUTCOMES]:
        shown.append(f"After a fix: {'; '.join(f'relay redrive {name} --stage {stage}' for name in some)}")
    document = {"counts": {name: each.total for name, each in found.items()}, "letters": list(map(asdict, every))}
    show.answer(document, *shown, as_json=as_json)
    raise typer.Exit(PROBLEM if total else FINE)


def _row_of(letter: DeadLetter, now: datetime) -> dict[str, str]:
    age = show.span(now - datetime.fromisoformat(letter.first_sent))
    times = {name: getattr(letter, name)[:16].replace("T", " ") for name in ("first_sent", "deleted_on")}
    return {**asdict(letter), "age": age, **times}


@app.command(rich_help_panel=MEND)
def redrive(
    kind: Annotated[Kind, typer.Argument(help="Whose dead letters.")],
    most: Annotated[int | None, typer.Option("--max", min=1, help="Move no more than so many.")] = None,
    *,
    yes: Yes = False,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into their queue, after a fix: first their reasons are shown, and you are asked."""
    stack = stack_of(stage)
    if not yes:
        _ask_about_letters(stack, kind, most)
    letters = []
    try:
        for letter in put_back(stack, kind, most):
            letters.append(letter)
            if not as_json:
                print(letter)
    finally:
        left = sum(bool(letter.left) for letter in letters)
        document = {"moved": len(letters) - left, "left": left, "letters": list(map(asdict, letters))}
        show.answer(document, f"{len(letters) - left} moved, {left} left.", as_json=as_json)


def _ask_about_letters(stack: StackOfStage, kind: Kind, most: int | None) -> None:
    """Say how many letters there are, and why; and ask whether to move them."""
    found = look(stack, kind)
    if not found.letters:
        _end(FINE, f"There are no dead letters of {kind}.")
    if not show.somebody_answers():
        raise WrongUse("Nothing was moved. This asks a person at a terminal; where nobody is, say --yes.")
    reasons = Counter(letter.reason for letter in found.letters).most_common()
    lines = [f"{number} x {reason}" for reason, number in reasons]
    moves = f"To be put back into their queue: {min(most or found.total, found.total)} of {found.total}"
    confirm(stack, "\n".join([f"Dead letters of {kind}, by their reasons:", *lines, moves]))


Of = Annotated[Kind | None, typer.Argument(help="Which kind; without it all three.")]


@app.command(rich_help_panel=MEND)
def pause(
    kind: Of = None,
    *,
    reason: Annotated[str, typer.Option(help="Why, in one line; it is kept, and shown wherever the pause is.")],
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """Have nothing of a kind, or nothing at all, be sent to Kiva until it is resumed; messages wait in their queues."""
    stack = stack_of(stage)
    told = _say(stack, "pause", kind, reason)
    queues = list(switch(stack, [kind] if kind else list(Kind), on=False))
    lines = [*told["says"], *(each.paused(_today()) for each in queues)]
    lines.append(f"To go on: relay resume{f' {kind}' if kind else ''} --stage {stage} --reason …")
    show.answer({**told, "queues": list(map(asdict, queues))}, *map(show.cell, lines), as_json=as_json)


@app.command(rich_help_panel=MEND)
def resume(
    kind: Of = None,
    *,
    reason: Annotated[str, typer.Option(help="Why, in one line; it is kept.")],
    restored: Annotated[
        bool, typer.Option("--restored", help="Confirm a ledger that was restored from a backup; ends no pause.")
    ] = False,
    yes: Yes = False,
    stage: Stage = "local",
    as_json: AsJson = False,
) -> None:
    """End a pause: what waits is sent. With --restored, confirm that what was sent since a backup was judged."""
    stack = stack_of(stage)
    if restored:
        if kind:
            raise WrongUse("--restored is for the whole ledger: give no kind.")
        if not yes:
            confirm(stack, GAP)
        told = _say(stack, "resume", None, reason, restored=True)
        show.answer(told, *map(show.cell, told["says"] or ["Sending goes on."]), as_json=as_json)
        return
    told = _say(stack, "resume", kind, reason)
    queues = list(switch(stack, [kind] if kind else list(Kind), on=True))
    lines = [*told["says"], *(each.resumed() for each in queues)]
    show.answer({**told, "queues": list(map(asdict, queues))}, *map(show.cell, lines), as_json=as_json)
    raise typer.Exit(PROBLEM if any(each.unchanged for each in queues) else FINE)


def _say(stack: StackOfStage, what: str, kind: Kind | None, reason: str, **more: bool) -> dict[str, Any]:
    body = {"reason": reason, **({"kind": kind} if kind else {}), **more}
    told: dict[str, Any] = stack.api.post(what, body=json.dumps(body).encode()).body
    return told


@app.command(rich_help_panel=LIFE)
def credentials(stage: Stage = "local", as_json: AsJson = False) -> None:
    """Ask for Kiva's client id and secret, unseen, and put them into the stack's secret."""
    arn = store(stack_of(stage), getpass.getpass)
    told = f"Stored in {arn}. The next token request uses them; see that they work: relay check --stage {stage}"
    show.answer({"stored_in": arn}, told, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def console(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the page answers; 0 for any.")] = 8090,
    open_browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it.")] = True,
    stage: Stage = "local",
) -> None:
    """Open the coordinator's page on this machine: what waits for a person, and what to do about it."""
    # A web server takes long to import, and no other command needs one.
    serve = import_module("cli.console").serve
    with suppress(KeyboardInterrupt):  # as it is meant to end
        serve(stack_of(stage), port, open_browser=open_browser)


# --- a stack's life ---------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=LIFE)
def init(
    stage: Annotated[
        str, typer.Option(help="Which environment of samconfig.toml; a new one is added.", autocompletion=_stages)
    ],
) -> None:
    """Ask what a deployment needs to know, and write it into samconfig.toml; what stands there is proposed."""
    if stage == "local" or not re.fullmatch(r"[A-Za-z0-9_-]+", stage):
        raise WrongUse("--stage names an environment of letters, digits, _ and -, and local has nothing to be asked.")
    if not show.somebody_answers():
        raise WrongUse("Nothing was written. This asks a person at a terminal; or edit samconfig.toml yourself.")
    folder = project()
    file = folder / "samconfig.toml"
    samconfig = file.read_text(encoding="utf-8")
    answers = {}
    for parameter, proposed in questions(stage, samconfig, parameters_of(read_template(folder / "template.yaml"))):
        show.say(f"\n{parameter.description}")
        if parameter.allowed:
            show.say(f"One of: {', '.join(parameter.allowed)}")
        default = proposed or (NOTHING if optional(parameter) else None)
        question = partial(typer.prompt, parameter.name, default=default, err=True)
        answers[parameter.name] = value_of(parameter, question, show.say)
    file.write_text(written(stage, samconfig, answers), encoding="utf-8")
    show.say(f"\nWritten into {file}. Next: relay deploy --stage {stage}")


@app.command(rich_help_panel=LIFE)
def deploy(
    *,
    yes: Yes = False,
    stage: Annotated[str, typer.Option(help="Which stack: an environment of samconfig.toml.", autocompletion=_stages)],
) -> None:
    """Show what differs from the live stack, ask, and run `sam build` and `sam deploy` with every parameter.

    Production is asked about each time, in words, and needs somebody to answer.
    """
    if stage == "local":
        raise WrongUse("The stack on this machine is started with: make up")
    stack, folder = stack_of(stage), project()
    template = read_template(folder / "template.yaml")
    chosen = given(stage, (folder / "samconfig.toml").read_text(encoding="utf-8"))
    planned = plan(stack, parameters_of(template), chosen)
    if planned.live is None and (there := leftovers.left_behind(stack, template)):
        raise NotDeployed(
            f"A deleted stack {stack.name} has left its data behind ({', '.join(there)}). Take it up first:"
            f" relay adopt --stage {stage}"
        )
    _show_plan(stack.name, planned)
    if planned.production and not show.somebody_answers():
        raise WrongUse("Nothing was deployed. Production needs a person who types at a terminal, each time.")
    if planned.production:
        partner = planned.chosen["KivaPartnerId"]
        show.say(f"Has Kiva confirmed in writing that partner {partner} may use its production?")
    if planned.production or not yes:
        ask(stack.name, planned.chosen["KivaEnvironment"])
    execute(stage, stack, folder, planned, ask=not yes)
    show.say(f"Next: relay credentials --stage {stage} (once, and whenever Kiva gives new ones)")
    show.say(f"Then: relay check --stage {stage}")


def _show_plan(name: str, planned: Plan) -> None:
    """On standard output, because it is what the command tells; SAM goes on there."""
    differing = [{"name": it, "now": now, "then": then} for it, now, then in planned.differences()]
    if planned.live:
        columns = {"Parameter": "name", "Now": "now", "Then": "then"}
        title = f"What changes in {name}"
    else:
        columns, title = {"Parameter": "name", "Value": "then"}, f"{name} is new"
    shown: list[Any] = [show.rows(title, columns, differing)] if differing else [f"{name}: no parameter changes."]
    shown.append("Code and resources: SAM compares them, and shows the change set where samconfig.toml says so.")
    if planned.protected_later:
        shown.append("It is deployed twice: one that fails at first must be deletable; then its ledger is protected.")
    shown += [show.cell(note) for note in planned.notes]
    show.answer(None, *shown, as_json=False)


@app.command(rich_help_panel=LIFE)
def adopt(
    *,
    resource: Annotated[
        list[str] | None,
        typer.Option(metavar="LogicalId=PhysicalId", help="Which one is meant, where several could be."),
    ] = None,
    yes: Yes = False,
    stage: Annotated[str, typer.Option(help="Which stack: an environment of samconfig.toml.", autocompletion=_stages)],
) -> None:
    """Take up again what a deleted stack of this name has left: table, bucket, key, secret, queues and event bus."""
    stack, folder = stack_of(stage), project()
    template = read_template(folder / "template.yaml")
    said = given(stage, (folder / "samconfig.toml").read_text(encoding="utf-8"))
    refuse_what_cannot_be_meant(stack.name, parameters_of(template), said)
    parameters = wanted(parameters_of(template), said)
    production = parameters["KivaEnvironment"] == "production"
    if production and not show.somebody_answers():
        raise WrongUse("Nothing was done. Production needs a person who types at a terminal.")
    chosen = dict(each.partition("=")[::2] for each in resource or ())
    there = leftovers.leftovers(stack, template, chosen)
    change_set = leftovers.prepare(stack, template, there, parameters)
    columns = {"Resource": "logical_id", "Type": "type", "Adopted is": "physical_id"}
    will = [it._asdict() for it in leftovers.imported(stack, change_set)]
    show.answer(None, show.rows(f"{stack.name} is made of what is there", columns, will), as_json=False)
    if new := leftovers.retained(template).keys() - {it.logical_id for it in there}:
        show.say(f"Not here, so that the deployment makes new ones: {', '.join(sorted(new))}")
    if production or not yes:
        ask(stack.name, parameters["KivaEnvironment"])
    leftovers.execute(stack, change_set)
    show.say(f"Adopted. The stack has no functions yet; next: relay deploy --stage {stage}")
