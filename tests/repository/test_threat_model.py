"""The threat model names what is there: a line of defence or a test that has gone must not stand in it."""

import re

from template.cloudformation import ROOT

TEXT = (ROOT / "docs" / "threat-model.md").read_text()
ROWS = [
    line.split("|")[1:-1] for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| Threat")
]
LAYER = ROOT / "layers" / "kiva_partner" / "kiva_partner"
FILE = re.compile(r"`([\w./-]+(?:\.\w+|/))`(?::((?: ?,? ?`\w+`)+))?")


def test_every_threat_has_a_line_of_defence_and_a_test():
    assert len(ROWS) >= 18
    assert [row[0] for row in ROWS if len(row) != 4 or not all(cell.strip() for cell in row)] == []
    assert [row[0] for row in ROWS if "`tests/" not in row[3]] == []


def test_every_file_that_it_names_is_there():
    named = {found[1] for found in FILE.finditer(TEXT)}
    assert [it for it in named if not (ROOT / it).exists() and not (LAYER / it).exists()] == []


def test_every_test_and_rule_that_it_names_is_there():
    claims = [(file, name) for file, names in FILE.findall(TEXT) for name in re.findall(r"`(\w+)`", names)]
    assert len(claims) > 15
    assert [(file, name) for file, name in claims if f"def {name}(" not in (ROOT / file).read_text()] == []
