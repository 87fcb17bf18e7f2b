"""The suite is worth what it catches: every deliberate mistake in the layer fails the tests that are named with it."""

import os
from concurrent.futures import ThreadPoolExecutor

from faults.mutants import FOUND, MISSED, MUTANTS, run


def test_every_broken_variant_is_caught(tally, tmp_path):
    with tally("Broken variants") as line:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            folders = [tmp_path / str(number) for number, _ in enumerate(MUTANTS)]
            ends = list(threads.map(run, MUTANTS, folders))
        survivors = [mutant.name for mutant, (end, _) in zip(MUTANTS, ends, strict=True) if end == MISSED]
        line.add(len(MUTANTS), wrong=len(survivors))
        assert survivors == []
        for mutant, (end, words) in zip(MUTANTS, ends, strict=True):
            assert end == FOUND, f"{mutant.name}: its tests did not run: {words}"
