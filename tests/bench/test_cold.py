import py_compile
import zipfile
from io import BytesIO

import pytest

from bench import cold
from bench.environment import Figure


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("answer = 42\n")
    return path


def test_a_module_counts_as_compiled_when_no_change_of_times_can_spoil_it(module):
    assert cold.compiled_percent([module.parent]) == 0
    py_compile.compile(module, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    assert cold.compiled_percent([module.parent]) == 0
    py_compile.compile(module, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert cold.compiled_percent([module.parent]) == 100


def test_modules_of_another_python_are_not_compiled(module):
    compiled = py_compile.compile(module, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    with open(compiled, "r+b") as file:  # noqa: PTH123 only the first bytes are to change
        file.write(b"\0\0\r\n")
    assert cold.compiled_percent([module.parent]) == 0


def test_a_package_is_as_large_as_its_archive(module):
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as written:
        written.write(module, "module.py")
    assert cold.zipped_bytes(module.parent) == len(archive.getvalue())


def test_without_valgrind_it_says_that_nothing_was_counted(monkeypatch):
    monkeypatch.setattr(cold.shutil, "which", lambda _: None)
    figures = cold.instructions(None)
    assert "cold_import_million_instructions" in figures
    assert set(map(str, figures.values())) == {
        str(Figure(None, None, {"why": "not measured: valgrind is not installed"}))
    }
