"""`make credentials STAGE=stage`: ask for Kiva's client id and secret, and put them into the stack's secret.

They are typed unseen, and pass through no file, no parameter, no command line and no output.
"""

import argparse
import getpass
import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

SAMCONFIG = Path(__file__).parents[1] / "samconfig.toml"


class CannotStore(Exception):
    """The credentials were not stored; the message says why and what to do."""


def main() -> int:
    """Run the command; exit code 0 when the credentials are stored, 1 when not."""
    parser = argparse.ArgumentParser(prog="make credentials STAGE=…", description=__doc__)
    parser.add_argument("stage", help="an environment of samconfig.toml: local, stage or prod")
    stage = parser.parse_args().stage
    try:
        name, region = stack_of(stage, SAMCONFIG.read_text())
        arn = store(name, boto3.Session(region_name=region).client, getpass.getpass)
    except CannotStore as error:
        print(error, file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        # Its text names the call and AWS's reason, and repeats no argument.
        print(f"Nothing was stored. AWS says: {error}", file=sys.stderr)
        return 1
    print(f"Stored in {arn}. The next token request uses them; check it with GET /config/themes.")
    return 0


def stack_of(stage: str, samconfig: str) -> tuple[str, str]:
    """Stack name and region of an environment of samconfig.toml. Raises CannotStore when there is none."""
    config = tomllib.loads(samconfig)
    try:
        return config[stage]["deploy"]["parameters"]["stack_name"], config[stage]["global"]["parameters"]["region"]
    except KeyError:
        known = ", ".join(name for name, section in config.items() if isinstance(section, dict) and "deploy" in section)
        raise CannotStore(f"samconfig.toml has no environment {stage!r}; it has {known}") from None


def store(stack: str, client: Callable[[str], Any], ask: Callable[[str], str]) -> str:
    """Ask for both values and write them; gives the secret's ARN. Raises CannotStore when one is empty."""
    outputs = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    arn = next((each["OutputValue"] for each in outputs if each["OutputKey"] == "CredentialsSecretArn"), None)
    if arn is None:
        raise CannotStore(f"The stack {stack} has no output CredentialsSecretArn; deploy this version of it first.")
    print(f"PA2 > Account > API Access shows both. They go into the secret of the stack {stack}.")
    values = {name: ask(f"{name} (not shown): ").strip() for name in ("client_id", "client_secret")}
    if not all(values.values()):
        raise CannotStore("Nothing was stored: both values are needed.")
    client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(values))
    return str(arn)


if __name__ == "__main__":
    sys.exit(main())
