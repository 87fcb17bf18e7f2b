"""`relay credentials`: Kiva's client id and secret are put into the stack's secret.

They are typed unseen, and pass through no file, no parameter, no command line and no output.
"""

import json
import sys
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from cli.stacks import StackOfStage


class CannotStore(Exception):
    """The credentials were not stored; the message says why and what to do."""


def store(stack: StackOfStage, ask: Callable[[str], str]) -> str:
    """Ask for both values and write them; gives the secret's ARN.

    Raises:
        CannotStore: one is empty, or AWS does not take them.
    """
    arn, environment, partner = map(stack.output, ("CredentialsSecretArn", "KivaEnvironment", "KivaPartnerId"))
    print(f"PA2 > Account > API Access shows both, for partner {partner} at Kiva's {environment}.", file=sys.stderr)
    print(f"They go into the secret of the stack {stack.name}.", file=sys.stderr)
    values = {name: ask(f"{name} (not shown): ").strip() for name in ("client_id", "client_secret")}
    if not all(values.values()):
        raise CannotStore("Nothing was stored: both values are needed.")
    # The functions refuse credentials that were stored for another stage or partner.
    values |= {"environment": environment, "partner_id": partner}
    try:
        stack.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(values))
    except ClientError as error:  # told by its code, for a text may repeat what it is about
        raise CannotStore(f"Nothing was stored. AWS says {error.response['Error']['Code']} to {arn}.") from None
    except BotoCoreError as error:
        raise CannotStore(f"Nothing was stored: {type(error).__name__} on the way to AWS.") from None
    return arn
