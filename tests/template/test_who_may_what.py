"""Who may do what in a deployed stack, and who may not: the policies are evaluated, as AWS evaluates them.

`test_permissions.py` compares what the policies say; here it is tried what that comes to, with resource policies, the
key's policy, conditions and other accounts. (`tests/e2e` has the functions do their work with these rights, in an
imitation of AWS that knows no resource policies.)
"""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import pytest

from guide import GUIDE, blocks
from template.account import (
    ACCOUNT,
    INSTALLED,
    NODE,
    REGION,
    STACK,
    Account,
    Context,
    Principal,
    Request,
    allow,
    answers,
)
from template.cloudformation import ROOT, Template, read

pytestmark = pytest.mark.skipif(
    not (NODE and INSTALLED.is_file()) and "CI" not in os.environ,
    reason="NO NODE: who may do what is not evaluated; install Node and npm, and run `make setup`",
)

PARTNER = "222233334444"
STRANGER = "333344445555"
SCOPE = "stage#9001#"


@cache
def account(token_store: str = "secrets-manager", others: str = "") -> Account:
    return Account(TokenStore=token_store, ApiAllowedAccounts=others, CoordinatorEmail="coordinator@example.org")


AS_IT_IS = account()
IN_SSM = account(token_store="ssm")
SHARED = account(others=PARTNER)

ADMINISTRATOR = Principal(f"arn:aws:iam::{ACCOUNT}:role/Administrator", [allow(["*"], "*")])
PARTNERS_ADMINISTRATOR = Principal(f"arn:aws:iam::{PARTNER}:role/Administrator", [allow(["*"], "*")])
STRANGERS_ADMINISTRATOR = Principal(f"arn:aws:iam::{STRANGER}:role/Administrator", [allow(["*"], "*")])
READER = Principal(
    f"arn:aws:iam::{ACCOUNT}:role/ReadOnly",
    [
        allow(
            ["dynamodb:*", "sqs:Get*", "sqs:ReceiveMessage", "s3:Get*", "ssm:Get*", "secretsmanager:Get*", "logs:Get*"],
            "*",
        )
    ],
)
"""Somebody with wide rights to read, and none to use keys: AWS's own ReadOnlyAccess has no kms:Decrypt."""


def function(name: str, of: Account = AS_IT_IS) -> Principal:
    return of.function(f"{name}Function")


def producer(user: str) -> Principal:
    """One with the very policy of the producer guide, the names of this stack put in."""
    (policy,) = [it.text for it in blocks(GUIDE, "policy") if it.name == user]
    outputs = {
        "STACK_KEY_ARN": AS_IT_IS.arn("StackKey"),
        "PAYLOAD_BUCKET_NAME": AS_IT_IS.arn("PayloadBucket").rsplit(":", 1)[1],
        "API_ID": AS_IT_IS.route("", "").split(":")[5].split("/")[0],
        "REGION": REGION,
        "ACCOUNT": ACCOUNT,
        "STACK": STACK,
    }
    for placeholder, name in outputs.items():
        policy = policy.replace(placeholder, name)
    return Principal(f"arn:aws:iam::{ACCOUNT}:role/{user}", [json.loads(policy)])


# --- what can be done, each as the requests that AWS makes of it ------------------------------------------------------

Deed = Sequence[Request]


def with_key(action: str, service: str = "", context: Context | None = None) -> Request:
    """A use of the stack's key, by a service in somebody's name or without one."""
    via = {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"} if service else {}
    return Request(f"kms:{action}", AS_IT_IS.arn("StackKey"), {**via, **(context or {})})


def secret(action: str, name: str, key: str) -> Deed:
    return [Request(f"secretsmanager:{action}", AS_IT_IS.arn(name)), with_key(key, "secretsmanager")]


READ_CREDENTIALS = secret("GetSecretValue", "CredentialsSecret", "Decrypt")
STORE_CREDENTIALS = secret("PutSecretValue", "CredentialsSecret", "GenerateDataKey")
READ_TOKEN = secret("GetSecretValue", "TokenSecret", "Decrypt")
SHARE_TOKEN = secret("PutSecretValue", "TokenSecret", "GenerateDataKey")
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{IN_SSM.variable('ConsoleFunction', 'TOKEN_STORE_NAME')}"
OF_PARAMETER = {"kms:EncryptionContext:PARAMETER_ARN": PARAMETER}
READ_TOKEN_IN_SSM = [Request("ssm:GetParameter", PARAMETER), with_key("Decrypt", "ssm", OF_PARAMETER)]
SHARE_TOKEN_IN_SSM = [Request("ssm:PutParameter", PARAMETER), with_key("Encrypt", "ssm", OF_PARAMETER)]


def queue(action: str, name: str, key: str = "Decrypt") -> Deed:
    return [Request(f"sqs:{action}", AS_IT_IS.arn(name)), with_key(key, "sqs")]


def ledger(action: str, *keys: str, scope: str = SCOPE) -> Deed:
    names = {"dynamodb:LeadingKeys": [f"{scope}{key}" for key in keys]}
    return [Request(f"dynamodb:{action}", AS_IT_IS.arn("LedgerTable"), names)]


def search(index: str, value: str) -> Deed:
    arn = f"{AS_IT_IS.arn('LedgerTable')}/index/{index}"
    return [Request("dynamodb:Query", arn, {"dynamodb:LeadingKeys": [f"{SCOPE}{value}"]})]


def photo(action: str) -> Deed:
    return [
        Request(f"s3:{action}", f"{AS_IT_IS.arn('PayloadBucket')}/photos/ab12"),
        with_key("GenerateDataKey" if action == "PutObject" else "Decrypt", "s3"),
    ]


def call(method: str, path: str) -> Deed:
    return [Request("execute-api:Invoke", AS_IT_IS.route(method, path))]


def in_the_clear(*requests: Request) -> Deed:
    return [Request(it.action, it.resource, {**it.context, "aws:SecureTransport": "false"}) for it in requests]


SUBMITTERS = {"LoanDrafts": "loan_draft", "JournalUpdates": "journal_update", "Repayments": "repayment"}
CALL_KIVA = (*SUBMITTERS, "Console", "Housekeeping")
ROUTES_OF_PRODUCERS = [
    ("POST", "/loan-drafts"), ("POST", "/journal-updates"), ("POST", "/repayments"),
    ("GET", "/submissions/repayment/2026-10:L-1:5"), ("GET", "/openapi.json"),
]  # fmt: skip
ROUTES_OF_PEOPLE = [
    ("GET", "/submissions"), ("POST", "/submissions/repayment/2026-10:L-1:5/decision"), ("GET", "/waiting"),
    ("POST", "/waiting/repayment/90001/done"), ("GET", "/check"), ("GET", "/health"), ("POST", "/pause"),
    ("POST", "/resume"), ("GET", "/loans"), ("GET", "/config/themes"),
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Of the table: who does what, in which account."""

    what: str
    who: Principal
    deed: Deed
    of: Account


MAY: list[Row] = []
MAY_NOT: list[Row] = []


def may(what: str, who: Principal, deed: Deed, of: Account = AS_IT_IS) -> None:
    MAY.append(Row(what, who, deed, of))


def may_not(what: str, who: Principal, deed: Deed, of: Account = AS_IT_IS) -> None:
    MAY_NOT.append(Row(what, who, deed, of))


# --- the credentials and the token
for name in CALL_KIVA:
    may(f"{name} reads the credentials", function(name), READ_CREDENTIALS)
    may(f"{name} reads the token", function(name), READ_TOKEN)
    may(f"{name} shares the token", function(name), SHARE_TOKEN)
    may(f"{name} reads the token in SSM", function(name, IN_SSM), READ_TOKEN_IN_SSM, IN_SSM)
    may(f"{name} shares the token in SSM", function(name, IN_SSM), SHARE_TOKEN_IN_SSM, IN_SSM)
    may_not(f"{name} writes credentials", function(name), STORE_CREDENTIALS)
    may(f"{name} takes the lease", function(name), ledger("PutItem", "lease#token"))
    may_not(f"{name} uses the key by itself", function(name), [with_key("Decrypt")])
for who, name in ((ADMINISTRATOR, "an administrator"), (READER, "a reader"), (function("Outcomes"), "Outcomes")):
    may_not(f"{name} reads the credentials", who, READ_CREDENTIALS)
    may_not(f"{name} reads the token", who, READ_TOKEN)
    may_not(f"{name} reads the token in SSM", who, READ_TOKEN_IN_SSM, IN_SSM)
may("an administrator stores credentials", ADMINISTRATOR, STORE_CREDENTIALS)
may_not("an administrator uses the key by itself", ADMINISTRATOR, [with_key("Decrypt")])
may("an administrator gives the key another policy", ADMINISTRATOR, [with_key("PutKeyPolicy")])
may_not("a reader reads what lies in a queue", READER, queue("ReceiveMessage", "RepaymentsQueue"))
may_not("a reader looks at a photo", READER, photo("GetObject"))

# --- each function its own
for name, kind in SUBMITTERS.items():
    other, others = next((n, k) for n, k in SUBMITTERS.items() if n != name)
    who = function(name)
    may(f"{name} takes from its queue", who, queue("ReceiveMessage", f"{name}Queue"))
    may(
        f"{name} sends to its dead-letter queue", who, queue("SendMessage", f"{name}DeadLetterQueue", "GenerateDataKey")
    )
    may_not(f"{name} takes from the queue of {other}", who, queue("ReceiveMessage", f"{other}Queue"))
    may_not(f"{name} takes from its dead-letter queue", who, queue("ReceiveMessage", f"{name}DeadLetterQueue"))
    for sort in ("submission", "message", "proof"):
        may(f"{name} writes a {sort} of its kind", who, ledger("PutItem", f"{sort}#{kind}#R7"))
        may_not(f"{name} writes a {sort} of {other}", who, ledger("PutItem", f"{sort}#{others}#R7"))
    may(f"{name} settles its own", who, ledger("UpdateItem", f"submission#{kind}#R7"))
    may_not(f"{name} settles what is {other}'s", who, ledger("UpdateItem", f"submission#{others}#R7"))
    may_not(f"{name} says what a person has done", who, ledger("PutItem", "done#repayment#90001"))
    may_not(
        f"{name} reads its own with another kind's",
        who,
        ledger("BatchGetItem", f"submission#{kind}#R7", f"submission#{others}#R7"),
    )
    may_not(f"{name} deletes a row", who, ledger("DeleteItem", f"submission#{kind}#R7"))
    may_not(f"{name} reads another partner's row", who, ledger("GetItem", f"submission#{kind}#R7", scope="stage#9002#"))
    may_not(f"{name} publishes events", who, [Request("events:PutEvents", AS_IT_IS.arn("EventBus"))])
may("LoanDrafts keeps a photo", function("LoanDrafts"), photo("PutObject"))
may_not("Repayments looks at a photo", function("Repayments"), photo("GetObject"))
may("Console finds what is UNKNOWN", function("Console"), search("by_state", "repayment#UNKNOWN"))
may("Console finds what is of a loan", function("Console"), search("by_loan", "L-1"))
may("Console decides", function("Console"), ledger("UpdateItem", "submission#repayment#R7"))
may("Console says what a person has done", function("Console"), ledger("PutItem", "done#repayment#90001"))
may_not("Console makes a row", function("Console"), ledger("PutItem", "submission#repayment#R7"))
may_not("Console sends a message", function("Console"), queue("SendMessage", "RepaymentsQueue", "GenerateDataKey"))
may("Housekeeping sends again", function("Housekeeping"), queue("SendMessage", "RepaymentsQueue", "GenerateDataKey"))
may_not("Housekeeping takes from a queue", function("Housekeeping"), queue("ReceiveMessage", "RepaymentsQueue"))
may_not("Housekeeping makes a row", function("Housekeeping"), ledger("PutItem", "submission#repayment#R7"))
may_not(
    "Housekeeping reads what is kept",
    function("Housekeeping"),
    [Request("s3:GetObject", f"{AS_IT_IS.arn('PayloadBucket')}/unknown/repayment/a")],
)
may("Outcomes publishes events", function("Outcomes"), [Request("events:PutEvents", AS_IT_IS.arn("EventBus"))])
may(
    "Outcomes mails the digest",
    function("Outcomes"),
    [Request("sns:Publish", AS_IT_IS.arn("DigestTopic")), with_key("GenerateDataKey", "sns")],
)
may_not("Outcomes makes a row", function("Outcomes"), ledger("PutItem", "submission#repayment#R7"))
may_not("Outcomes takes from a queue", function("Outcomes"), queue("ReceiveMessage", "RepaymentsQueue"))

# --- producers, with the guide's policies
may(
    "a producer of repayments sends them",
    producer("repayments"),
    queue("SendMessage", "RepaymentsQueue", "GenerateDataKey"),
)
may_not("a producer of repayments reads the queue", producer("repayments"), queue("ReceiveMessage", "RepaymentsQueue"))
may_not(
    "a producer of repayments sends drafts",
    producer("repayments"),
    queue("SendMessage", "LoanDraftsQueue", "GenerateDataKey"),
)
may("a producer of drafts sends them", producer("drafts"), queue("SendMessage", "LoanDraftsQueue", "GenerateDataKey"))
may("a producer of drafts lays their photos down", producer("drafts"), photo("PutObject"))
may_not("a producer of drafts looks at photos", producer("drafts"), photo("GetObject"))
may("a producer of journals posts them", producer("journals"), call("POST", "/journal-updates"))
may(
    "a producer of journals reads what became of them",
    producer("journals"),
    call("GET", "/submissions/journal_update/J-1"),
)
may_not(
    "a producer of journals decides", producer("journals"), call("POST", "/submissions/journal_update/J-1/decision")
)
may_not("a producer of journals reads names of borrowers", producer("journals"), call("GET", "/loans"))
for who, name in ((producer("repayments"), "repayments"), (producer("drafts"), "drafts")):
    may_not(f"a producer of {name} reads the credentials", who, READ_CREDENTIALS)
    may_not(f"a producer of {name} uses the key by itself", who, [with_key("Decrypt")])

# --- other accounts
for method, path in ROUTES_OF_PRODUCERS:
    may(f"a listed account's {method} {path}", PARTNERS_ADMINISTRATOR, call(method, path), SHARED)
for method, path in (*ROUTES_OF_PRODUCERS, *ROUTES_OF_PEOPLE):
    may(f"the own account's {method} {path}", ADMINISTRATOR, call(method, path))
    may(f"the own account's {method} {path}, with others listed", ADMINISTRATOR, call(method, path), SHARED)
    may_not(f"an unlisted account's {method} {path}", STRANGERS_ADMINISTRATOR, call(method, path), SHARED)
    may_not(f"another account's {method} {path} where none is listed", PARTNERS_ADMINISTRATOR, call(method, path))
for method, path in ROUTES_OF_PEOPLE:
    may_not(f"a listed account's {method} {path}", PARTNERS_ADMINISTRATOR, call(method, path), SHARED)
for name in ("queue", "photo", "credentials"):
    deed = {
        "queue": queue("SendMessage", "RepaymentsQueue", "GenerateDataKey"),
        "photo": photo("PutObject"),
        "credentials": STORE_CREDENTIALS,
    }[name]
    may_not(f"a listed account's way to the {name} past the API", PARTNERS_ADMINISTRATOR, deed, SHARED)

# --- on the wire
may_not(
    "sending in the clear",
    producer("repayments"),
    in_the_clear(*queue("SendMessage", "RepaymentsQueue", "GenerateDataKey")),
)
may_not("a photo in the clear", producer("drafts"), in_the_clear(*photo("PutObject")))


def decide(rows: Sequence[Row]) -> list[bool]:
    """Whether AWS would let each of them do all that it takes. Every account is asked once."""
    found: dict[int, bool] = {}
    for of in {id(row.of): row.of for row in rows}.values():
        here = [(number, row) for number, row in enumerate(rows) if row.of is of]
        said = iter(answers(of, [(row.who, request) for _, row in here for request in row.deed]))
        found |= {number: set(islice(said, len(row.deed))) == {"Allowed"} for number, row in here}
    return [found[number] for number in range(len(rows))]


@pytest.fixture(scope="module")
def decided() -> dict[str, bool]:
    rows = [*MAY, *MAY_NOT]
    assert len({row.what for row in rows}) == len(rows)
    return {row.what: allowed for row, allowed in zip(rows, decide(rows), strict=True)}


@pytest.mark.parametrize("what", [row.what for row in MAY])
def test_it_is_allowed(decided: dict[str, bool], what: str) -> None:
    assert decided[what]


@pytest.mark.parametrize("what", [row.what for row in MAY_NOT])
def test_it_is_refused(decided: dict[str, bool], what: str) -> None:
    assert not decided[what]


# --- the evaluation itself: a policy that is changed shows

Change = Callable[[Template], object]


def _properties(template: Template, name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def _statement(template: Template, sid: str) -> dict[str, Any]:
    (found,) = [
        it for it in template["Resources"]["StackKey"]["Properties"]["KeyPolicy"]["Statement"] if it["Sid"] == sid
    ]
    return dict(found) and found


BROKEN: dict[str, tuple[Change, Principal, Deed]] = {
    "the credentials have no policy": (
        lambda it: it["Resources"].pop("OnlyFunctionsReadCredentials"), ADMINISTRATOR, READ_CREDENTIALS,
    ),
    "the key is lent to everybody": (
        lambda it: _statement(it, "UseThroughServices").pop("Condition"), ADMINISTRATOR, [with_key("Decrypt")],
    ),
    "the API has no policy": (
        lambda it: _properties(it, "RelayApi")["Auth"]["ResourcePolicy"].update(
            CustomStatements=[{**allow(["execute-api:Invoke"], "execute-api:/*")["Statement"][0], "Principal": "*"}]
        ),
        STRANGERS_ADMINISTRATOR, call("GET", "/loans"),
    ),
    "queues speak in the clear": (
        lambda it: it["Resources"].pop("QueuesOnlyOverTls"), ADMINISTRATOR,
        in_the_clear(Request("sqs:SendMessage", AS_IT_IS.arn("RepaymentsQueue"))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_policy_is_seen(what: str) -> None:
    change, who, deed = BROKEN[what]
    broken = read()
    change(broken)
    assert decide([Row(what, who, deed, AS_IT_IS), Row(what, who, deed, Account(broken))]) == [False, True]


# --- the policies of functions, read by parliament

OF_SAM = {"NO_VERSION": "SAM writes the policies of schedules without one"}


def parliament(policy: object) -> list[str]:
    """What it finds in an identity policy: actions that do not exist, resources and conditions that no action has."""
    command = [ROOT / ".venvs" / "scanners" / "bin" / "parliament", "--json", "--string", json.dumps(policy)]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # it complains about what it imports itself
    ran = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)  # noqa: S603 it is fixed
    assert not ran.stderr, ran.stderr
    return [json.loads(line)["issue"] for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("name", AS_IT_IS.identity_policies())
def test_parliament_finds_nothing_in_the_policies(name: str) -> None:
    excused = OF_SAM if name.endswith("LambdaPolicy") else {}
    assert [it for it in parliament(AS_IT_IS.identity_policies()[name]) if it not in excused] == []


def test_parliament_sees_what_no_action_has() -> None:
    assert parliament(allow(["dynamodb:ListStreams"], AS_IT_IS.arn("LedgerTable"))) == ["RESOURCE_MISMATCH"]
