"""The rooms and the one direction between them (docs/architecture.md), held by reading the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "kiva_partner" / "kiva_partner"

ORDER = (
    {"errors", "dynamodb", "masking", "findings", "characters", "envelopes"},
    {"settings", "strict_json", "photos", "formats"},
    {"messages", "tokens"},
    {"ledger", "client", "payloads", "sending", "catalogue", "runs"},
    {"breaker"},
    {"relay", "decisions", "pa2", "versions"},
    {"telemetry"},
    {"api", "queues", "housekeeping", "checks", "health"},
    {"waiting", "examples"},
    {"outcomes", "openapi"},
    {"runtime"},
)
RANK = {module: rank for rank, modules in enumerate(ORDER) for module in modules}


def tree(path):
    return ast.parse(path.read_text())


def imported_from_the_layer(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            if node.level == 1:
                yield from [node.module] if node.module else [each.name for each in node.names]
            elif node.module == "kiva_partner":
                yield from (each.name for each in node.names)
            elif node.module and node.module.startswith("kiva_partner."):
                yield node.module.split(".")[1]


MODULES = sorted(path for path in LAYER.glob("*.py") if path.stem != "__init__")
HANDLERS = sorted((ROOT / "functions").glob("*/app.py"))


def test_every_module_has_its_place():
    assert {path.stem for path in MODULES} == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    assert all(RANK[other] < RANK[path.stem] for other in imported_from_the_layer(path))


def test_only_handlers_read_the_runtime():
    assert not any("runtime" in set(imported_from_the_layer(path)) for path in MODULES)
    assert all("runtime" in set(imported_from_the_layer(path)) for path in HANDLERS)


@pytest.mark.parametrize("path", [*MODULES, *HANDLERS], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_importing_reads_no_environment_and_makes_no_client(path):
    """At module level nothing calls into os, boto or requests, but for constants."""
    calls = [
        ast.unparse(node.func)
        for statement in tree(path).body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    ]
    assert not [call for call in calls if call.startswith(("os.", "boto", "requests.", "_aws", "settings", "Settings"))]


def test_only_the_runtime_reads_the_environment():
    readers = {path.stem for path in MODULES if "os.environ" in path.read_text() or "os.getenv" in path.read_text()}
    assert readers == {"runtime"}


def test_only_the_console_pays_for_the_description_of_the_api():
    """Its examples are long, and a cold start of those who submit is as short as it can be."""
    described = {"openapi", "examples"}
    importers = {path.parent.name for path in HANDLERS if described & set(imported_from_the_layer(path))}
    importers |= {path.stem for path in MODULES if described & set(imported_from_the_layer(path))}
    assert importers == {"console", "openapi"}


def test_requests_are_made_in_one_module_only():
    users = {
        path.stem
        for path in [*MODULES, *HANDLERS]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import)
        and any(each.name in ("requests", "urllib3", "http.client") for each in node.names)
    }
    assert users == {"client"}


def test_the_imitation_of_kiva_knows_nothing_of_the_relay():
    """Else a mistake of ours would be right there as well, and nobody else could use it."""
    imported = {
        name.partition(".")[0]
        for path in (ROOT / "kiva_sandbox").glob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert "kiva_sandbox" in imported
    assert imported.isdisjoint({"kiva_partner", "cli", "local", "functions", "tests"})
