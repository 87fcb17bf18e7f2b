"""A DynamoDB that is atomic under a race, with its neighbours: one MiniStack for all tests of this tier.

It works on one request at a time; moto's conditional writes are not atomic under threads. Cases keep apart by a partner
id of their own, which is part of every key of the ledger, and by queues and a bucket of their own.
"""

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count

from deployment import ENVIRONMENT, create_table
from local import processes
from local.stack import LOOPBACK, REGION, client_of, ministack

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
_partners = count(1)


def new_partner():
    """A partner id that no case before had."""
    return str(next(_partners))


@dataclass(frozen=True)
class Aws:
    endpoint: str

    @cache  # noqa: B019 there is one, until the end
    def client(self, service):
        return self.new_client(service)

    def new_client(self, service):
        return client_of(self.endpoint, service)


@contextmanager
def running(state):
    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    try:
        ministack(state, LOOPBACK, port, permissions=False)
        aws = Aws(f"http://{LOOPBACK}:{port}")
        create_table(aws.client("dynamodb"))
        secrets = aws.client("secretsmanager")
        secrets.create_secret(Name=ENVIRONMENT["TOKEN_STORE_NAME"], SecretString="none yet")
        yield aws
    finally:
        processes.stop("ministack", state=state)
