"""What no linter knows of this project: where the network is, and what may not be said to it or about it."""

import ast
from collections.abc import Iterator

import pytest

from template.cloudformation import ROOT

LAYER = ROOT / "layers" / "kiva_partner" / "kiva_partner"
DEPLOYED = [*LAYER.glob("*.py"), *(ROOT / "functions").glob("*/*.py")]
NETWORK = {"requests", "urllib3", "http", "socket", "urllib.request", "httpx"}
SENDS = {"send", "request", "get", "post", "put", "patch", "delete", "head", "options"}
DANGEROUS = {"pickle", "marshal", "subprocess", "ctypes", "eval", "exec", "compile", "__import__"}

SAYS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
PRIVATE = {"event", "body", "message", "content", "document", "token", "response"}
"""Variables and fields of such names hold what no log may hold."""
HARMLESS = {"token.scopes"}
"""Parts of them that are neither secret nor a person's."""


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [module, *(f"{module}.{name.name}" for name in node.names)]
    return []


def the_network_is_in_one_module(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        for module in imported(node):
            if {module, module.partition(".")[0]} & NETWORK and name != "client.py":
                yield f"{name} imports {module}; calls to Kiva are in client.py"


def a_call_is_bounded_and_goes_where_it_was_sent(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in SENDS and _is_http(value):
                given = {it.arg: ast.unparse(it.value) for it in node.keywords}
                if given.get("allow_redirects") != "False":
                    yield f"{name}:{node.lineno} follows redirects, and with them goes the token"
                if "timeout" not in given:
                    yield f"{name}:{node.lineno} waits for ever"


def certificates_are_checked(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="verify" | "check_hostname", value=ast.Constant(value=False)):
                yield f"{name} does not verify"
            case ast.Attribute(attr="CERT_NONE" | "_create_unverified_context"):
                yield f"{name} trusts everybody"
            case ast.Assign(targets=[ast.Attribute(attr="verify" | "check_hostname")], value=ast.Constant(value=False)):
                yield f"{name} does not look whom it talks to"


def nothing_runs_what_came_from_outside(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        used = imported(node) + (
            [node.func.id] if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else []
        )
        for it in used:
            if it.partition(".")[0] in DANGEROUS:
                yield f"{name} uses {it}"
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(
            ("os.system", "os.popen", "os.exec", "os.spawn")
        ):
            yield f"{name} uses {ast.unparse(node)}"


def no_message_is_logged(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in SAYS:
                if not ast.unparse(value).endswith(("log", "logger")):
                    continue
                if attr == "exception" or any(it.arg in ("exc_info", "stack_info") for it in node.keywords):
                    yield f"{name}:{node.lineno} logs an exception's text, which may hold anything"
                every = [it for given in [*node.args, *node.keywords] for it in ast.walk(given)]
                harmless = [it.value for it in every if isinstance(it, ast.Attribute) and ast.unparse(it) in HARMLESS]
                said = {it.id for it in every if isinstance(it, ast.Name) and it not in harmless}
                said |= {ast.unparse(it.slice).strip("'") for it in every if isinstance(it, ast.Subscript)}
                if said & PRIVATE:
                    yield f"{name}:{node.lineno} logs what is a borrower's or Kiva's"


def _is_http(value: ast.expr) -> bool:
    return ast.unparse(value).removeprefix("self.").lstrip("_") in ("http", "requests", "session", "requests.Session()")


COUNTER_EXAMPLES = {
    the_network_is_in_one_module: [
        "import requests",
        "from urllib3.util import Retry",
        "import http.client",
        "from urllib import request",
    ],
    a_call_is_bounded_and_goes_where_it_was_sent: [
        "http.post(url, timeout=1)",
        "self._http.send(request, allow_redirects=False)",
        "requests.get(url, allow_redirects=True, timeout=1)",
        "self._session.put(url, timeout=1)",
    ],
    certificates_are_checked: [
        "f(verify=False)",
        "http.verify = False",
        "context.verify_mode = ssl.CERT_NONE",
        "context.check_hostname = False",
    ],
    nothing_runs_what_came_from_outside: [
        "import pickle",
        "eval(text)",
        "from subprocess import run",
        "os.system(text)",
    ],
    no_message_is_logged: [
        "_log.info('%s', event)",
        "_log.error('%s', record['body'])",
        "_log.info('it came', extra={'said': body})",
        "logger.critical(f'{event}')",
        "_log.info('fetched', extra={'scopes': token.scopes, 'value': token.value})",
        "_log.exception('it failed')",
        "self._logger.error('no', exc_info=True)",
        "_log.warning('%s', str(response.text))",
    ],
}


@pytest.mark.parametrize("rule", COUNTER_EXAMPLES, ids=lambda rule: rule.__name__)
def test_the_deployed_source_keeps_the_rule(rule):
    assert [it for file in DEPLOYED for it in rule(ast.parse(file.read_text()), file.name)] == []


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in COUNTER_EXAMPLES.items() for text in texts])
def test_source_that_breaks_the_rule_is_caught(rule, text):
    assert list(rule(ast.parse(text), "other.py"))


def test_every_exception_from_a_security_rule_says_why():
    files = [
        *DEPLOYED,
        *(ROOT / "cli").glob("*.py"),
        *(ROOT / "local").rglob("*.py"),
        *(ROOT / "kiva_sandbox").glob("*.py"),
    ]
    lines = [line for file in files for line in file.read_text().splitlines() if "# noqa: S" in line]
    assert lines
    assert [line for line in lines if not line.partition("# noqa: S")[2].partition(" ")[2].strip()] == []
