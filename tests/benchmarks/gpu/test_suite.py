from pathlib import Path

import pytest

from benchmarks.gpu import suite
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.suite import ROOT, gpu_files, run_tests, verdicts
from benchmarks.support.errors import BenchmarkError

OUTPUT = """
tests/a/test_one.py::test_first PASSED [ 33%]
tests/a/test_one.py::test_second[one two] FAILED [ 66%]
tests/a/test_one.py::test_third SKIPPED (no GPU) [100%]
=========================== short test summary info ============================
FAILED tests/a/test_one.py::test_second[one two] - AssertionError: assert 1 == 2
ERROR tests/b/test_two.py - ModuleNotFoundError: No module named 'fastapi'
============== 1 failed, 1 passed, 1 skipped, 1 error in 1.00s =================
"""


def test_every_test_has_its_verdict_and_the_reason_of_a_failure() -> None:
    assert list(verdicts(OUTPUT)) == [
        {"test": "tests/a/test_one.py::test_first", "verdict": "passed", "why": ""},
        {
            "test": "tests/a/test_one.py::test_second[one two]",
            "verdict": "failed",
            "why": "AssertionError: assert 1 == 2",
        },
        {"test": "tests/a/test_one.py::test_third", "verdict": "skipped", "why": ""},
        {"test": "tests/b/test_two.py", "verdict": "error", "why": "ModuleNotFoundError: No module named 'fastapi'"},
    ]


def test_files_with_a_test_for_a_gpu_are_found() -> None:
    files = gpu_files(ROOT)
    assert "tests/serve/runtime/test_session.py" in files
    assert "tests/adamix_train/run/test_train.py" in files
    assert "tests/benchmarks/support/test_rounds.py" not in files


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    return tmp_path


SETTING = Setting(folder=Path(), provider="cpu", tiny=True)
MARKED = "import pytest\n\n@pytest.mark.gpu\ndef test_one():\n    {}\n\ndef test_other():\n    pass\n"


def test_a_test_that_fails_is_a_row(tree: Path) -> None:
    (tree / "tests" / "test_it.py").write_text(MARKED.format("assert 1 == 2"))
    outcome = run_tests(SETTING)
    assert outcome.rows == [{"test": "tests/test_it.py::test_one", "verdict": "failed", "why": "assert 1 == 2"}]
    assert "pytest ended with 1" in outcome.notes[0] and "1 failed, 1 deselected" in outcome.notes[0]


def test_what_was_said_before_the_limit_is_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "tests" / "test_a.py").write_text(MARKED.format("pass"))
    (tree / "tests" / "test_b.py").write_text(MARKED.format("import time; time.sleep(60)"))
    monkeypatch.setattr(suite, "TINY_LIMIT", 4.0)
    outcome = run_tests(SETTING)
    assert outcome.rows == [{"test": "tests/test_a.py::test_one", "verdict": "passed", "why": ""}]
    assert outcome.notes[0].startswith("pytest was ended after 4 s")


def test_no_test_at_all_is_an_error(tree: Path) -> None:
    (tree / "tests" / "test_it.py").write_text("# mark.gpu\n")
    with pytest.raises(BenchmarkError, match="no test ran: pytest ended with 5"):
        run_tests(SETTING)
