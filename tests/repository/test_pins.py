"""What is installed is what was chosen: every distribution by version and hash, wherever something is installed."""

import json
import re
import subprocess

import pytest

from template.cloudformation import ROOT

PINS = [*(ROOT / "requirements").glob("*.txt"), ROOT / "layers" / "kiva_partner" / "requirements.txt"]
LAYER = PINS[-1]


def pinned(file):
    """Each distribution with its version and its hashes."""
    for entry in file.read_text().replace("\\\n", " ").splitlines():
        if entry.strip() and not entry.lstrip().startswith("#"):
            named = re.match(r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==(\S+)", entry)
            assert named, entry.split("--hash")[0]
            yield named[1], named[2], re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry)


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.stem if file != LAYER else "layer")
def test_every_distribution_has_one_version_and_hashes_and_no_address(file):
    assert all(hashes for _, _, hashes in pinned(file))
    assert "://" not in file.read_text()


def test_every_list_of_wishes_has_its_pins():
    wishes = {file.stem for file in (ROOT / "requirements").glob("*.in")}
    assert wishes == {file.stem for file in PINS[:-1]}


@pytest.mark.parametrize("file", ["local/toolchain.sh", "layers/kiva_partner/Makefile"])
def test_nothing_is_installed_without_its_hash(file):
    text = (ROOT / file).read_text().replace("\\\n", " ")
    installs = [line for line in text.splitlines() if re.search(r"\bpip\b.* (install|sync)\b", line)]
    assert installs
    # What stands in this folder is our own: it has no hash, comes from nowhere else, and brings nothing along.
    ours = [line for line in installs if {"--editable", ".", "--no-deps", "--offline"} <= set(line.split())]
    assert all("--require-hashes" in line for line in installs if line not in ours), installs


def test_the_bill_of_materials_lists_what_the_layer_ships_and_nothing_else(tmp_path):
    subprocess.run(["make", "sbom", f"SBOM={tmp_path}/sbom.json"], cwd=ROOT, check=True, capture_output=True)  # noqa: S603, S607
    text = (tmp_path / "sbom.json").read_text()
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {
        (part["name"], part["version"], f"sha256:{digest['content']}")
        for part in bill["components"]
        for reference in part["externalReferences"]
        for digest in reference.get("hashes", [])
    }
    assert listed == {(name, version, digest) for name, version, hashes in pinned(LAYER) for digest in hashes}
