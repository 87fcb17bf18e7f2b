"""That the benchmark of tokens fits the layer: `make test` runs no benchmark, and this one broke unnoticed.

The layer's source runs here, with the packages of the tests; what `sam build` makes of it is for the benchmark.
"""

import sysconfig
from pathlib import Path

import pytest

from bench import environment, stubs, tokens
from bench.environment import ROOT, Artefact, Stage
from deployment import ENVIRONMENT
from sockets import certificate

PATHS = (ROOT / "functions" / "repayments", ROOT / "layers" / "kiva_partner", Path(sysconfig.get_path("purelib")))


@pytest.fixture(scope="module")
def on(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    trusted, _ = certificate(folder / "kiva.pem", "localhost")
    (folder / "certifi.py").write_text(f"def where():\n    return {str(trusted)!r}\n")
    with stubs.kiva(trusted) as kiva, stubs.aws() as aws:
        variables = ENVIRONMENT | environment._stack(kiva.url, aws.url)
        of_repayments = ({"repayment": it} for it in ((folder, *PATHS), "app.handler", variables))
        yield Stage(kiva, aws, Artefact("kiva-relay", *of_repayments, home=folder), None)


@pytest.mark.parametrize(
    ("scenario", "told"),
    [
        ("cold_starts", {"starts": 8, "at_a_time": 4}),
        ("day", {"workers": 3, "poll_seconds": 300, "housekeeping": False}),
        ("refused", {"workers": 4, "at_a_time": 2}),
    ],
)
def test_kiva_is_asked_for_a_token_as_often_as_it_must_be(on, scenario, told):
    requests, seen = tokens._play(on, on.ours, scenario, **told)
    assert requests == (3 if scenario == "day" else 1)
    assert not seen.get("waits")
