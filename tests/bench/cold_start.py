"""One cold start of an execution environment, as far as it is told to go; whoever starts it counts what that took.

    cold_start.py <implementation> <handler> event|import|api|submission <loan>

* `event`: nothing of the implementation, only what all the others do too: the base.
* `import`: its handler's module, and the AWS clients that a first submission needs (DynamoDB and Secrets Manager).
* `api`: the same as a request of API Gateway needs it, which is to be queued (DynamoDB and SQS).
* `submission`: its handler is invoked with one repayment, which must reach Kiva and be recorded.

Runs in the artefact's interpreter, as worker.py does.
"""

import os
import signal
import sys
from importlib import import_module

from worker import invoke, record, repayment


def kiva_relay(step):
    runtime = import_module("kiva_partner.runtime")
    kind = import_module("kiva_partner.messages").Kind.REPAYMENT
    if step == "api":
        runtime.intake(kind)
    else:
        runtime.consumer(kind)
    for service in ("dynamodb", "sqs" if step == "api" else "secretsmanager"):
        runtime.aws(service)()


def textbook(step):
    # DynamoDB's client it makes by itself; this is the one that `get_secret` makes.
    import_module("aws_lambda_powertools.utilities.parameters").SecretsProvider()


CLIENTS = {"kiva-relay": kiva_relay, "textbook": textbook}


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # under valgrind an exception would take half a minute to end it
    implementation, handler, step, loan = sys.argv[1:]
    event = {"Records": [record(repayment(loan, 1))]}
    if step == "event":
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # log lines are formatted and written, but to nowhere
    module, _, name = handler.rpartition(".")
    function = getattr(import_module(module), name)
    if step == "submission":
        invoke(function, event)
    else:
        CLIENTS[implementation](step)


if __name__ == "__main__":
    main()
