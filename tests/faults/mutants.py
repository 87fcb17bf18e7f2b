"""Deliberate mistakes in the layer, each of which must be caught: what a careless change could do to the promise.

Each is a piece of text of the layer and what it is replaced by, with the tests that must fail then.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "kiva_partner" / "kiva_partner"
FOUND, MISSED = 1, 0
"""What pytest exits with when a test failed, and when none did."""

MACHINE = "tests/faults/test_state_machine.py"
CONNECTIONS = "tests/wire/test_connections.py"
CANARIES = "tests/faults/test_canaries.py"
HOSTILE_WORDS = "tests/faults/test_hostile_words.py"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: str
    """Arguments of pytest, split at spaces."""

    def __str__(self):
        return self.name


MUTANTS = [
    Mutant(
        "sent before it is claimed",
        "relay.py",
        "        ours, others = self._claim(candidates, owner, wave.remaining)\n"
        "        outcomes, stop = self._post_in_rounds(kind, ours, contents, wave, trial=trial)\n",
        "        outcomes, stop = self._post_in_rounds(kind, candidates, contents, wave, trial=trial)\n"
        "        ours, others = self._claim(candidates, owner, wave.remaining)\n",
        MACHINE,
    ),
    Mutant(
        "a fault of ours after the claim is sent again",
        "relay.py",
        'return Outcome(State.UNKNOWN, f"unexpected',
        'return Outcome(State.RETRY, f"unexpected',
        MACHINE,
    ),
    Mutant(
        "the reference is SQS's message id",
        "queues.py",
        "                    messages.append((record, message))\n",
        "                    from copy import replace\n"
        "                    own = [\n"
        "                        replace(each, reference=f\"{record['messageId']}:{each.loan_id}\")\n"
        "                        for each in message.submissions\n"
        "                    ]\n"
        "                    messages.append((record, replace(message, submissions=tuple(own))))\n",
        MACHINE,
    ),
    Mutant(
        "an expired claim is sent again",
        "ledger.py",
        "expire = self._change(State.UNKNOWN, condition, values)",
        "expire = self._change(State.RETRY, condition, values)",
        MACHINE,
    ),
    Mutant(
        "a server error is sent again",
        "client.py",
        '        raise OutcomeUnknown(f"Kiva answered HTTP {status}", status=status, text=said)\n',
        '        raise NotSent(f"Kiva answered HTTP {status}", status=status)\n',
        MACHINE,
    ),
    Mutant(
        "anybody writes the outcome",
        "ledger.py",
        'self._change(state, f"#owner = :me AND (#state = :sending{late})", values)',
        'self._change(state, f"(#owner = :me OR #owner <> :me) AND (#state = :sending{late})", values)',
        "tests/unit/test_ledger.py -k only_the_owner_settles",
    ),
    Mutant(
        "a finding that fits no row is dropped",
        "findings.py",
        '        doubt = doubt or "it names a problem that fits no row of this call"\n',
        "        pass\n",
        MACHINE,
    ),
    Mutant(
        "a severity that nobody knows is mild",
        "findings.py",
        "Weight.GRAVE if word in GRAVE else Weight.UNCLEAR",
        "Weight.GRAVE if word in GRAVE else Weight.MILD",
        MACHINE,
    ),
    Mutant(
        "a gateway's 404 is a word of Kiva's",
        "client.py",
        "            if status not in CONTENT_STATUSES:\n",
        "            if not CONTENT_STATUSES:\n",
        MACHINE,
    ),
    Mutant(
        "an id proves any number of calls",
        "ledger.py",
        'f"attribute_not_exists(pk) OR call_id = :call_id{part}"',
        'f"attribute_not_exists(pk) OR call_id <> :call_id OR call_id = :call_id{part}"',
        MACHINE,
    ),
    Mutant(
        "a nil id proves a call",
        "client.py",
        " or proves_nothing(text):",
        ":",
        MACHINE,
    ),
    Mutant(
        "what was refused goes once more without anybody's word",
        "ledger.py",
        "AND reopened = :true)",
        "AND :true = :true)",
        MACHINE,
    ),
    Mutant(
        "a row that a decision excepts is accepted with the others",
        "decisions.py",
        "if row.reference in (decision.excepted or ()):",
        "if row.reference in ():",
        "tests/functions/test_decisions.py -k except",
    ),
    Mutant(
        "a list is asked about row by row although none is taken",
        "relay.py",
        "REFUSED_ALIKE = 8\n",
        "REFUSED_ALIKE = 10**9\n",
        "tests/unit/test_relay.py -k row_by_row",
    ),
    Mutant(
        "unknown, acknowledged and not kept",
        "relay.py",
        "        self._keep(results, contents, wave.threads)\n",
        "",
        MACHINE,
    ),
    Mutant(
        "what could not be kept is acknowledged",
        "relay.py",
        "results |= {it: replace(result, verdict=Verdict.AGAIN, reason=reason)",
        "results |= {it: replace(result, reason=reason)",
        "tests/unit/test_relay.py -k cannot_be_kept",
    ),
    Mutant(
        "a dead-lettered row stays RETRY",
        "queues.py",
        "        self._mark_stuck(left)\n",
        "",
        MACHINE,
    ),
    Mutant(
        "STUCK is written before the dead letter",
        "queues.py",
        "        try:\n            self.queues.lay_aside(record, self.kind, reason)\n",
        "        self._mark_stuck(left)\n        try:\n            self.queues.lay_aside(record, self.kind, reason)\n",
        MACHINE,
    ),
    Mutant(
        "what is stuck cannot be claimed",
        "ledger.py",
        '"#state IN (:queued, :retry, :stuck) AND fingerprint = :fingerprint"',
        '"#state IN (:queued, :retry) AND #state <> :stuck AND fingerprint = :fingerprint"',
        MACHINE,
    ),
    Mutant(
        "an accepted row of a dead-lettered list becomes stuck",
        "ledger.py",
        '"#state IN (:queued, :retry) AND fingerprint = :fingerprint AND updated_at = :read_at"',
        '"(#state IN (:queued, :retry) OR fingerprint = :fingerprint) AND updated_at <= :read_at"',
        "tests/unit/test_ledger.py -k sent_meanwhile",
    ),
    Mutant(
        "without a token nobody is told that Kiva takes nothing",
        "queues.py",
        'self.telemetry.count("KivaUnavailable", int(isinstance(error, KivaUnavailable)))',
        'self.telemetry.count("KivaUnavailable", 0)',
        "tests/functions/test_queue_side.py -k got_no_token",
    ),
    Mutant(
        "one message may come five times in a minute, and then not for a quarter of an hour",
        "queues.py",
        "self._jitter(longest / 2, longest)",
        "self._jitter(0, longest)",
        "tests/unit/test_queues.py -k half_of_that",
    ),
    Mutant(
        "an empty secret rings no alarm, though there was a token before",
        "tokens.py",
        "            if stored:  # a stack that had a token is not a fresh one\n",
        "            if not stored and stored:\n",
        "tests/functions/test_first_day.py -k gone_from_a_stack",
    ),
    Mutant(
        "after the last delivery SQS is left to it",
        "queues.py",
        'if int(record["attributes"]["ApproximateReceiveCount"]) < MOST_RECEIVES:',
        "if record:",
        "tests/functions/test_stuck.py -k last_delivery",
    ),
    Mutant(
        "what was purged waits for ever",
        "housekeeping.py",
        "        stuck = self.ledger.mark_stuck([(row, _GONE) for row in waiting if row.needs_its_message])\n",
        "        stuck = self.ledger.mark_stuck([])\n",
        MACHINE,
    ),
    Mutant(
        "what may still be in its queue is called stuck",
        "housekeeping.py",
        "before = self.clock() - RETENTION_SECONDS\n",
        "before = self.clock() - RETENTION_SECONDS / 10\n",
        MACHINE,
    ),
    Mutant(
        "the event posted again is answered as if it stood",
        "api.py",
        "row.state in (State.RETRY, State.STUCK)",
        "row.state is State.RETRY",
        "tests/functions/test_stuck.py -k posted_again",
    ),
    Mutant(
        "requests looks where a redirect leads",
        "client.py",
        '        """None, ever."""',
        "        return super().get_redirect_target(resp)",
        "tests/unit/test_client.py -k redirect_to_nowhere",
    ),
    Mutant(
        "the HTTP library sends again by itself",
        "client.py",
        "super().__init__(pool_maxsize=connections)",
        "super().__init__(pool_maxsize=connections, max_retries=__import__('urllib3').Retry(2, allowed_methods=None))",
        "tests/wire/test_client_on_the_wire.py -k unknown_and_sent_once",
    ),
    Mutant(
        "a claim ends before its sender",
        "relay.py",
        "LEASE_MARGIN = 30\n",
        "LEASE_MARGIN = -280\n",
        MACHINE,
    ),
    Mutant(
        "an unclear claim counts as ours",
        "ledger.py",
        "            else (ClaimResult.UNCLEAR, None)\n",
        "            else (ClaimResult.CLAIMED, None)\n",
        "tests/unit/test_ledger.py -k everything_that_is_not_ours",
    ),
    Mutant(
        "a decision while a gateway may still deliver",
        "decisions.py",
        "SETTLING_SECONDS = 15 * 60\n",
        "SETTLING_SECONDS = 0\n",
        MACHINE,
    ),
    Mutant(
        "the breaker never opens",
        "breaker.py",
        "THRESHOLD = 3\n",
        "THRESHOLD = 10**9\n",
        "tests/faults/test_outage.py -k few_doubts",
    ),
    Mutant(
        "a restored ledger licenses what it has forgotten",
        "sending.py",
        "if item.table_id != self._describe().id and not self._confirm_fresh(item):",
        "if False:",
        "tests/faults/test_restore.py -k since_the_backup",
    ),
    Mutant(
        "a ledger that was restored to before its first sending is a fresh one",
        "sending.py",
        "if not item.table_id and not table.is_restored:",
        "if not item.table_id:",
        "tests/unit/test_sending.py -k before_the_first_sending",
    ),
    Mutant(
        "an environment knows its table for ever",
        "sending.py",
        "DESCRIBED_SECONDS = 60\n",
        "DESCRIBED_SECONDS = 10**9\n",
        "tests/faults/test_restore.py -k since_the_backup",
    ),
    Mutant(
        "what is paused is sent",
        "sending.py",
        "if word := item.paused.get(kind):\n            raise",
        "if False:\n            raise",
        "tests/functions/test_pause.py -k goes_once_it_is_resumed",
    ),
    Mutant(
        "a pause is seen by the next invocation alone",
        "relay.py",
        "self._sending.check(kind, within=RECENT_SECONDS)",
        "self._sending.check(kind, within=10**9)",
        "tests/functions/test_pause.py -k in_the_middle",
    ),
    Mutant(
        "the breaker writes over a pause",
        "sending.py",
        '{"circuits": msgspec.json.encode(circuits).decode(), "version": version + 1},',
        '{"circuits": msgspec.json.encode(circuits).decode(), "version": version + 1, "paused_loan_draft": "no"},',
        "tests/unit/test_sending.py -k do_not_overwrite",
    ),
    Mutant(
        "a row of a newer version is claimed",
        "ledger.py",
        '        condition = f"({condition}) AND {_NOT_NEWER}"\n',
        "",
        "tests/functions/test_formats.py -k neither_sent_nor_touched",
    ),
    Mutant(
        "a message of a newer version is read as our own",
        "queues.py",
        '        formats.refuse_newer(record.get("messageAttributes", {}).get(FROM_API, {}).get("stringValue"))\n',
        "",
        "tests/functions/test_formats.py -k whatever_the_ledger_knows",
    ),
    Mutant(
        "a pointer of a newer version is a dead letter",
        "payloads.py",
        "    formats.refuse_newer(found[2])\n",
        "",
        "tests/functions/test_formats.py -k pointer",
    ),
    Mutant(
        "what a newer version keeps is forgotten",
        "housekeeping.py",
        "        except NewerVersion:\n            return False\n",
        "        except NewerVersion:\n            return True\n",
        "tests/functions/test_formats.py -k housekeeping",
    ),
    Mutant(
        "a trial is as wide as any wave",
        "relay.py",
        "parallel = 1 if trial else self._settings.parallel_calls",
        "parallel = self._settings.parallel_calls",
        "tests/faults/test_outage.py -k only_posts_fail",
    ),
    Mutant(
        "what comes again does not wait",
        "queues.py",
        "        self._put_off(waits)\n",
        "",
        "tests/faults/test_batches.py -k larger_than_sqs_gives",
    ),
    Mutant(
        "a batch is answered with nothing",
        "queues.py",
        '        return come_again(record["messageId"] for record, _ in waits)\n',
        '        come_again(record["messageId"] for record, _ in waits)\n        return None\n',
        "tests/faults/test_batches.py -k not_processed_stays",
    ),
    Mutant(
        "what was claimed and not sent stays claimed",
        "relay.py",
        "            outcomes += of_round\n",
        "            outcomes += of_round if stop is None else []\n",
        "tests/unit/test_relay.py -k is_spared_goes_back",
    ),
    Mutant(
        "outcomes are lost with the breaker",
        "relay.py",
        "        except Exception as error:  # noqa: BLE001 the outcomes are not written down yet, and weigh more\n",
        "        except ZeroDivisionError as error:\n",
        "tests/unit/test_relay.py -k breaker_that_cannot_be_told",
    ),
    Mutant(
        "every byte has the whole time again",
        "client.py",
        "        if self.end < math.inf:\n",
        "        if not self.end:\n",
        "tests/wire/test_client_on_the_wire.py -k drips",
    ),
    Mutant(
        "a connection serves again however long it was idle",
        "client.py",
        "IDLE_SECONDS = 1.0\n",
        "IDLE_SECONDS = 1e9\n",
        f"{CONNECTIONS} -k idle",
    ),
    Mutant(
        "what was read behind an answer is forgotten",
        "client.py",
        "                self._sock.idle_since = -math.inf\n",
        "                pass\n",
        f"{CONNECTIONS} -k comes_with_the_first",
    ),
    Mutant(
        "a connection is quiet when the kernel has nothing of it",
        "client.py",
        "        timeout = self.gettimeout()\n",
        "        return not __import__('select').select([self], [], [], 0)[0]\n        timeout = self.gettimeout()\n",
        f"{CONNECTIONS} -k decrypted",
    ),
    Mutant(
        "nobody looks whether something waits on a connection",
        "client.py",
        "<= IDLE_SECONDS and self.sock.is_quiet()",
        "<= IDLE_SECONDS",
        f"{CONNECTIONS} -k comes_later",
    ),
    Mutant(
        "a connection that speaks another protocol serves again",
        "client.py",
        "            self.close()  # we asked for none",
        "            pass  # we asked for none",
        f"{CONNECTIONS} -k another_protocol",
    ),
    Mutant(
        "a session ticket counts as an answer",
        "client.py",
        "except (BlockingIOError, ssl.SSLWantReadError):",
        "except BlockingIOError:",
        f"{CONNECTIONS} -k ticket",
    ),
    Mutant(
        "an interim answer is the answer",
        "client.py",
        "if status // 100 == 1 and status !=",
        "if status == 100 and status !=",
        "tests/wire/test_client_on_the_wire.py -k interim",
    ),
    Mutant(
        "an error is told while transactions are under way",
        "ledger.py",
        "        wait(running)\n",
        "",
        "tests/unit/test_ledger.py -k all_have_ended",
    ),
    Mutant(
        "the log holds the body of a dead letter",
        "queues.py",
        'dead-letter queue: %s", record["messageId"], reason[:MAX_REASON])',
        'dead-letter queue: %s", record["messageId"], record["body"])',
        f"{CANARIES} -k wrong_with_a_message",
    ),
    Mutant(
        "an error's text holds the token",
        "client.py",
        'raise OutcomeUnknown(f"Kiva gave no answer: {type(error).__name__}") from None',
        'raise OutcomeUnknown(f"Kiva gave no answer: {request.headers}") from None',
        "tests/faults/test_matrix.py -k POST-closed",
    ),
    Mutant(
        "a new token is logged",
        "tokens.py",
        '"lives": lives}',
        '"lives": lives, "token": token.value}',
        "tests/faults/test_matrix.py -k token-HTTP",
    ),
    Mutant(
        "a row of the ledger holds the group's name",
        "messages.py",
        "client_id=draft.internal_client_id or",
        "client_id=draft.group_name or draft.internal_client_id or",
        f"{CANARIES} -k neither_of_the_two",
    ),
    Mutant(
        "Kiva's words are shown as they came",
        "relay.py",
        "masked(error.text, (it.content for it in call.submissions))",
        "error.text",
        f"{HOSTILE_WORDS} -k plain",
    ),
    Mutant(
        "of Kiva's words only those are hidden that look strange",
        "masking.py",
        "plain and not any(piece in told for piece in (part[0], *pieces))",
        "plain",
        f"{HOSTILE_WORDS} -k line",
    ),
    Mutant(
        "of Kiva's words only those are hidden that were told",
        "masking.py",
        "plain = part[0].casefold() in _COMMON or re.fullmatch(_PLAIN, part[0])",
        "plain = True",
        f"{HOSTILE_WORDS} -k base64",
    ),
    Mutant(
        "a URL that people open may hold anything",
        "client.py",
        'path = r"[/?#][A-Za-z0-9/?#=&._-]*"',
        'path = r"[/?#][!-~]*"',
        f"{HOSTILE_WORDS} -k people_open",
    ),
    Mutant(
        "an id of a loan that is found may be anything",
        "housekeeping.py",
        r"[0-9]{1,20}",
        r".*",
        f"{HOSTILE_WORDS} -k loan_that_is_found",
    ),
    Mutant(
        "Kiva's words may hold the token",
        "client.py",
        'body = body.replace(written, b"***")',
        "body = body.replace(written, written)",
        "tests/wire/test_client_on_the_wire.py -k quotes_our_token",
    ),
    Mutant(
        "the reason of a dead letter holds the photo",
        "messages.py",
        'Violation("$.image_encoded", rule) for rule in broken',
        'Violation("$.image_encoded", f"{rule}: {draft.image_encoded}") for rule in broken',
        f"{CANARIES} -k photo_that_cannot",
    ),
    Mutant(
        "the text of an unexpected error is told",
        "errors.py",
        'return f"{type(error).__name__}{place}"',
        'return f"{error!r}{place}"',
        f"{CANARIES} -k error_of_aws",
    ),
    Mutant(
        "the HTTP library may warn, and quote",
        "telemetry.py",
        'logging.getLogger("urllib3").setLevel(logging.ERROR)',
        'logging.getLogger("urllib3").setLevel(logging.INFO)',
        f"{HOSTILE_WORDS} -k anywhere",
    ),
]


def run(mutant, folder):
    """Apply it to a copy of the layer in this folder and run its tests against that; gives pytest's exit and words."""
    copy = Path(folder) / "kiva_partner"
    shutil.copytree(LAYER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / mutant.file
    text = file.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} does not hold its text once"
    file.write_text(text.replace(mutant.old, mutant.new))
    done = subprocess.run(  # noqa: S603 the commands are written above
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line", "--show-capture=no"),
            *("-o", f"pythonpath={folder} functions tests ."),
            *mutant.tests.split(),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "FAULTS": "", "FIRST_FAILURE_IS_ENOUGH": "yes"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
