from pathlib import Path

import pytest

from benchmarks.gpu import suite
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.suite import ROOT, gpu_files, run_tests
from benchmarks.support.errors import BenchmarkError

SKIPPED = "import pytest\n\n@pytest.mark.gpu\n@pytest.mark.skip(reason='no card')\ndef test_two():\n    pass\n"


def test_every_test_has_its_verdict_and_the_reason(tree: Path) -> None:
    (tree / "tests" / "test_a.py").write_text(MARKED.format("pass"))
    (tree / "tests" / "test_b.py").write_text(SKIPPED)
    (tree / "tests" / "test_c.py").write_text("# mark.gpu\nimport no_such_package\n")
    (tree / "tests" / "test_d.py").write_text(MARKED.replace("test_one()", "test_one(missing)").format("pass"))
    rows = run_tests(SETTING).rows
    found = {row["test"]: (row["verdict"], row["why"]) for row in rows}
    assert found.pop("tests/test_c.py")[0] == "error"
    verdict, why = found.pop("tests/test_d.py::test_one")
    assert verdict == "error" and "fixture 'missing' not found" in str(why)
    assert found == {
        "tests/test_a.py::test_one": ("passed", ""),
        "tests/test_b.py::test_two": ("skipped", "Skipped: no card"),
    }


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
    assert "pytest ended with 1" in outcome.notes[0] and "1 failed" in outcome.notes[0]


def test_what_was_said_before_the_limit_is_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "tests" / "test_a.py").write_text(MARKED.format("pass"))
    (tree / "tests" / "test_b.py").write_text(MARKED.format("import time; time.sleep(60)"))
    monkeypatch.setattr(suite, "TINY_LIMIT", 12.0)
    outcome = run_tests(SETTING)
    assert outcome.rows == [{"test": "tests/test_a.py::test_one", "verdict": "passed", "why": ""}]
    assert outcome.notes[0].startswith("pytest was ended after 12 s")


def test_no_test_at_all_is_an_error(tree: Path) -> None:
    (tree / "tests" / "test_it.py").write_text("# mark.gpu\n")
    with pytest.raises(BenchmarkError, match="no test ran: pytest ended with 5"):
        run_tests(SETTING)
