"""Many execution environments that need Kiva's token, played by one process with the implementation's own token code.

    token_worker.py <implementation> cold_starts|day|refused '{"…": …}'

Runs in the artefact's interpreter, as worker.py does. It says when it comes to what is to be counted, goes on when a
line on standard input tells it to, and ends with what happened, as JSON.
"""

import gc
import json
import os
import struct
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

SCOPE = "create:repayment"
DAY = 24 * 3600
HOUSEKEEPING_SECONDS = 300
REFUSED_AFTER = 3600
"""Seconds after a token was fetched: a new token that is refused is another fault, and has another answer."""

SECONDS = struct.Struct("d")


class Waits(Exception):
    """A worker would sleep here, until somebody else has fetched a token."""


def would_sleep(seconds):
    raise Waits


class Clock:
    """The time of day, and as much ahead of it as is set."""

    ahead = 0

    def __call__(self):
        return time.time() + self.ahead


# --- the two implementations' token code ------------------------------------------------------------------------------


class KivaRelay:
    def __init__(self):
        from kiva_partner import runtime, tokens  # noqa: PLC0415 the other one has no such modules

        self._runtime, self._tokens = runtime, tokens
        runtime.telemetry()

    def prepare(self):
        """Make the clients, and have them read what every client reads at its first call, from an empty store."""
        dynamodb, secrets = self._runtime.aws("dynamodb")(), self._runtime.aws("secretsmanager")()
        dynamodb.get_item(TableName=self._runtime.settings().ledger_table, Key={"pk": {"S": "none"}})
        with suppress(secrets.exceptions.ResourceNotFoundException):
            secrets.get_secret_value(SecretId=self._runtime.settings().token_store_name)
        dynamodb.close()
        secrets.close()

    def cold_start(self):
        return self._runtime.tokens().get(SCOPE)

    def holder(self, clock, sleep, meanwhile):
        """A token provider as `runtime.tokens` makes it, but for time, and what happens while it asks Kiva."""
        runtime, settings = self._runtime, self._runtime.settings()

        def ask(url, form, seconds):
            meanwhile()
            return runtime.post_form(settings, runtime._tls, url, form, seconds)

        name = f"{settings.ledger_scope}#lease#token"
        lease = self._tokens.Lease(runtime.aws("dynamodb"), settings.ledger_table, name, clock)
        credentials = self._tokens.CredentialsSecret(runtime.aws("secretsmanager"), settings)
        return self._tokens.TokenProvider(
            settings, runtime._token_store(), lease, credentials.versions, ask, clock=clock, sleep=sleep
        )

    def get(self, holder):
        return holder.get(SCOPE)

    def discard(self, holder, token):
        holder.discard(token)

    def keep_house(self, holder):
        holder.renew_early()


class Textbook:
    def __init__(self):
        import app  # noqa: PLC0415 as above

        self._app = app

    def prepare(self):
        """Make the client; the credentials that it reads are kept for five minutes."""
        self._app.get_secret(self._app.CREDENTIALS_SECRET, transform="json", max_age=300)

    def cold_start(self):
        return self._app.tokens.get()

    def holder(self, clock, sleep, meanwhile):
        self._app.time = type("time", (), {"time": staticmethod(clock)})
        return self._app.TokenCache()

    def get(self, holder):
        return holder.get()

    def discard(self, holder, token):
        holder.discard()

    def keep_house(self, holder):
        """It has no housekeeping."""


# --- what may happen to them ------------------------------------------------------------------------------------------


def cold_starts(code, starts, at_a_time):
    """Fork environments with nothing in memory, so many at a time; each gets itself a token and ends."""
    gc.freeze()
    checkpoint()
    reading, writing = os.pipe()
    exits = []
    for number in range(starts):
        if number >= at_a_time:
            exits.append(os.wait()[1])
        if os.fork() == 0:
            _cold_start(code, writing)
    exits += [os.wait()[1] for _ in range(starts - len(exits))]
    if any(exits):
        raise SystemExit(f"{len(exits) - exits.count(0)} cold starts got no token")
    seconds = sorted(SECONDS.unpack(os.read(reading, SECONDS.size))[0] for _ in range(starts))
    return {"seconds_median": seconds[starts // 2], "seconds_at_most": seconds[-1]}


def _cold_start(code, writing):
    try:
        started = time.perf_counter()
        code.cold_start()
        os.write(writing, SECONDS.pack(time.perf_counter() - started))
        os._exit(0)
    except Exception:  # noqa: BLE001 nobody else would tell
        traceback.print_exc()
    finally:
        os._exit(1)


def day(code, workers, poll_seconds, housekeeping):
    """Let environments ask for the token every so often for a day, and all the others while one asks Kiva for it."""
    clock = Clock()
    holders, waits = [], []

    def poll(index):
        try:
            code.get(holders[index])
        except Waits:
            waits.append(clock.ahead)

    def others_poll(asking):
        if clock.ahead:  # before there is a first token, nobody can but wait
            for index in {*range(workers)} - {asking}:
                poll(index)

    checkpoint()
    holders += [code.holder(clock, would_sleep, partial(others_poll, index)) for index in range(workers + 1)]
    for clock.ahead in range(0, DAY, poll_seconds):
        if housekeeping and clock.ahead % HOUSEKEEPING_SECONDS == 0:
            code.keep_house(holders[-1])
        for index in range(workers):
            poll(index)
    return {"waits": len(waits)}


def refused(code, workers, at_a_time):
    """Each discards the token that all hold, as when Kiva refuses it, and gets another one; so many at a time."""
    clock = Clock()
    holders = [code.holder(clock, time.sleep, lambda: None) for _ in range(workers)]

    def again(holder, token):
        code.discard(holder, token)
        return code.get(holder) != token

    with ThreadPoolExecutor(at_a_time) as threads:
        tokens = list(threads.map(code.get, holders))
        clock.ahead = REFUSED_AFTER
        checkpoint()
        if not all(threads.map(again, holders, tokens)):
            raise SystemExit("a token that Kiva refused is used again")
    return {}


def checkpoint():
    """Now begins what is counted."""
    say("ready")
    sys.stdin.readline()


def say(what):
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    implementation, scenario, told = sys.argv[1:]
    code = {"kiva-relay": KivaRelay, "textbook": Textbook}[implementation]()
    code.prepare()
    say({"cold_starts": cold_starts, "day": day, "refused": refused}[scenario](code, **json.loads(told)))
