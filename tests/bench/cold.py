"""What a cold start costs, and what was packed for it.

Instructions are what decides: they repeat to the fourth digit, whatever else the machine does. They are counted by
valgrind, with cachegrind's cache simulation off; callgrind counts the same within half a percent in three times the
time. CPU until the first submission is recorded is what a cold start costs in the end, of which a clock says less.
"""

import importlib.util
import io
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from threading import Event

from bench.environment import INTERPRETER, Artefact, Figure, Stage, alone, ratios

COLD_START = Path(__file__).with_name("cold_start.py")

ROUNDS = 5

UNCHECKED_HASH = 1
"""The flag in a .pyc that is used whatever the source beside it says (PEP 552); any other kind a zip may spoil."""

MIB = 2**20

# What takes longest goes first, so that both cores are done at about the same time.
INSTRUCTIONS = {
    "cold_to_first_submission_million_instructions": ("submission", ("textbook", "kiva-relay")),
    "cold_import_million_instructions": ("import", ("textbook", "kiva-relay")),
    "http_import_million_instructions": ("api", ("kiva-relay",)),
}
"""For each metric the step of cold_start.py, and whose it is."""

_loans = count(1)


# --- instructions  ----------------------------------------------------------------------------------------------------


def instructions(on: Stage) -> dict[str, Figure]:
    """Millions of instructions of a process from its start, by what it does."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        why = {"why": "not measured: valgrind is not installed"}
        return {metric: Figure(None, None, why) for metric in INSTRUCTIONS}
    on.latency(kiva=0, aws=0)
    _submit(on, on.ours)  # fetches the token that the next ones find
    broken = Event()
    with ThreadPoolExecutor(2) as two:  # one for each core: nothing that others do changes what is counted
        counted = {
            metric: [
                two.submit(_count, valgrind, artefact, step, broken) if artefact.name in whose else None
                for artefact in (on.textbook, on.ours)
            ]
            for metric, (step, whose) in INSTRUCTIONS.items()
        }
    figures = {}
    for metric, (step, _) in INSTRUCTIONS.items():
        textbook, ours = (each and each.result() for each in counted[metric])
        figures[metric] = Figure(ours, textbook, {"how": f"valgrind's count of the process: cold_start.py {step}"})
    return figures


def _count(valgrind: str, artefact: Artefact, step: str, broken: Event) -> float:
    """Millions. After one has failed, or somebody has pressed Ctrl-C, `broken` keeps the next from starting."""
    if broken.is_set():
        raise RuntimeError("another count has broken off")
    tool = [valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    try:
        said = _cold_start(artefact, step, *tool)
    except RuntimeError:
        broken.set()
        raise
    return int(re.search(r"I +refs: +([0-9,]+)", said)[1].replace(",", "")) / 1e6


# --- CPU until the first submission is recorded  ----------------------------------------------------------------------


def measure(on: Stage) -> dict[str, Figure]:
    """CPU of a cold start, and what was packed, by the name of the metric."""
    return {**_first_submission(on), **_packages(on)}


def _first_submission(on: Stage) -> dict[str, Figure]:
    """CPU milliseconds above the base's, in turn, with the token in the store as nearly every cold start finds it.

    Fetching it as well is what one in thousands does; the textbook's environments all do, each for itself.
    """
    on.latency(kiva=0, aws=0)
    rounds = []
    for _ in range(ROUNDS):
        on.aws.reset()
        fetching = _submit(on, on.ours)
        base = _cpu_ms(on.ours, "event")
        rounds.append([each - base for each in (_submit(on, on.ours), _submit(on, on.textbook), fetching)])
    ours, textbook, fetching = zip(*rounds, strict=True)
    how = f"user and system, a whole process less one that only builds the event, {ROUNDS} rounds in turn, token stored"
    also = {
        "minimum": {"ours": min(ours), "textbook": min(textbook)},
        "ours_when_it_fetches_the_token": {"median": median(fetching), **ratios(fetching, textbook)},
    }
    return {
        "cold_to_first_submission_cpu_ms": Figure(
            median(ours), median(textbook), {"how": how, **ratios(ours, textbook), **also}
        )
    }


def _submit(on: Stage, artefact: Artefact) -> float:
    """CPU milliseconds of one cold start and one repayment. Raises RuntimeError unless Kiva's stub got it, once."""
    before = on.kiva.counts()["repayments"]
    cpu = _cpu_ms(artefact, "submission")
    if on.kiva.counts()["repayments"] != before + 1:
        raise RuntimeError(f"{artefact.name} did not submit its first repayment once")
    return cpu


def _cpu_ms(artefact: Artefact, step: str) -> float:
    before = getrusage(RUSAGE_CHILDREN)  # counts those that have ended: the stubs are not among them
    _cold_start(artefact, step)
    after = getrusage(RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _cold_start(artefact: Artefact, step: str, *tool: str) -> str:
    """Run it and give what it, or the tool that watches it, says in the end."""
    told = (artefact.name, artefact.handlers["repayment"], step, f"cold-{next(_loans)}")
    ended = subprocess.run(  # noqa: S603 our own command
        [*tool, INTERPRETER, COLD_START, *told],
        # Without the seed, sets and dictionaries are laid out differently each time.
        env=artefact.environment("repayment", PYTHONHASHSEED="0"),
        cwd=artefact.paths["repayment"][0],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"a cold start of {artefact.name} failed ({step}): {ended.stderr[-2000:]}")
    return ended.stderr


# --- what was packed  -------------------------------------------------------------------------------------------------


def _packages(on: Stage) -> dict[str, Figure]:
    ours, textbook = (_folders(artefact) for artefact in (on.ours, on.textbook))
    layer = on.ours.paths["repayment"][-1].parent
    packages = (layer, *textbook)
    with ThreadPoolExecutor(2) as two:
        zipped = list(two.map(zipped_bytes, packages))
    # Both are copies, larger by the one certificate of Kiva's stub than what was built.
    how = {"how": "our layer; the textbook's one package"}
    return {
        "pyc_coverage_percent": Figure(
            compiled_percent(ours),
            compiled_percent(textbook),
            {"how": "modules with a .pyc for this Python that no change of times can spoil; layer and functions"},
        ),
        "layer_mib_unzipped": Figure(*(_bytes(each) / MIB for each in packages), how),
        "layer_mib_zipped": Figure(*(each / MIB for each in zipped), {"how": f"zip -9; {how['how']}"}),
    }


def _folders(artefact: Artefact) -> list[Path]:
    return sorted({path for paths in artefact.paths.values() for path in paths})


def compiled_percent(folders: Iterable[Path]) -> float:
    """Of how many modules in a hundred Python finds a .pyc that it will use in a folder that cannot be written."""
    modules = [module for folder in folders for module in folder.rglob("*.py")]
    return 100 * sum(map(_is_compiled, modules)) / len(modules)


def _is_compiled(module: Path) -> bool:
    compiled = Path(importlib.util.cache_from_source(str(module)))
    head = compiled.read_bytes()[:8] if compiled.exists() else b""
    return head == importlib.util.MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def zipped_bytes(folder: Path) -> int:
    """Of an archive of all that is in a folder, compressed as much as `zip -9` does."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as written:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                written.write(path, path.relative_to(folder))
    return archive.tell()


def everything(on: Stage) -> Mapping[str, Figure]:
    """All of the above, for the command line."""
    return {**instructions(on), **measure(on)}


if __name__ == "__main__":
    alone(everything)
