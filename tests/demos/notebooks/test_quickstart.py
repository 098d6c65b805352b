"""The notebook's cells, executed on a tiny base."""

import json
import re
from pathlib import Path

import pytest

import demos
from demos.notebooks.execute import Notebook, execute
from tests.adamix_train.conftest import make_base

pytestmark = pytest.mark.slow
FILE = Path(demos.__file__).parent / "notebooks" / "quickstart.ipynb"


def printed(notebook: Notebook) -> str:
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return "".join(line for cell in cells for output in cell["outputs"] for line in output["text"])


def test_the_notebook_runs_and_serves_what_it_trained(tmp_path: Path) -> None:
    given = json.loads(FILE.read_text("utf-8"))
    work = tmp_path / "work"
    base = make_base(tmp_path / "base", seed=0)
    shown = printed(execute(given, {"base": base, "work": work, "epochs": 1}))
    assert "tone: 320 rows, labels ['negative', 'positive']" in shown
    assert re.search(r"^intent +106 .* 100\.00%", shown, re.MULTILINE)
    assert len(re.findall(r"^ *(tone|intent): \w+ +0\.\d\d  ", shown, re.MULTILINE)) == 4
    assert re.findall(r"^  (tone(?:\.\d)?) +\d\.\d{3}$", shown, re.MULTILINE) == [
        *(f"tone.{i}" for i in range(4)),
        "tone",
    ]
    assert (work / "both" / "bundle.json").is_file()


def test_the_kept_outputs_are_those_of_a_run_on_the_real_base() -> None:
    shown = printed(json.loads(FILE.read_text("utf-8")))
    assert "tone: 320 rows, labels ['negative', 'positive']" in shown
    for task in ("tone", "intent"):
        (accuracy,) = re.findall(rf"^{task}: accuracy (0\.\d+) on the test file", shown, re.MULTILINE)
        assert float(accuracy) > 0.7
