import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.gpu import runner
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.runner import groups_of, run_parts
from benchmarks.gpu.setting import Setting, setting_of

SETTING = Setting(folder=Path(), provider="cuda", tiny=True)
WRITE = "import sys; open(sys.argv[1], 'w').write('{\"rows\": [1], \"whole\": true}')"
SCRIPTS = {
    "good": WRITE,
    "dies": "import sys; print('before'); sys.exit('no CUDA device')",
    "hangs": "import time; print('compiling', flush=True); time.sleep(60)",
    "silent": "pass",
    "half": WRITE.replace("true", "false") + "; import time; print('compiling', flush=True); time.sleep(60)",
    "ends badly": f"{WRITE}; sys.stdout.flush(); import os; os.abort()",
    "slow": f"import time; time.sleep(0.8); {WRITE}",
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def part(name: str, *, limit: float = 20.0, timed: bool = True) -> Part:
    return Part(name=name, measure="none:none", limit=limit, timed=timed)


def command(one: Part, setting: Setting, out: Path) -> Sequence[str]:
    return [sys.executable, "-c", SCRIPTS[one.name], str(out)]


def run(*parts: Part, seconds: float = 60.0) -> dict[str, dict[str, object]]:
    return {one.name: record for one, record in run_parts(parts, SETTING, seconds=seconds, command=command)}


def test_a_part_that_dies_hangs_or_says_nothing_is_named_and_the_next_goes_on() -> None:
    records = run(part("dies"), part("hangs", limit=0.7), part("silent"), part("good"))
    assert [record["state"] for record in records.values()] == ["failed", "failed", "failed", "done"]
    assert records["dies"]["error"] == "it ended with 1: no CUDA device"
    assert records["hangs"]["error"] == "it took more than its 1 s: compiling"
    assert records["silent"]["error"] == "it ended with 0: no output"
    assert records["good"]["rows"] == [1]
    assert Path("logs/dies.log").read_text("utf-8").startswith("before")


def test_a_process_that_dies_after_its_outcome_has_done_its_part() -> None:
    record = run(part("ends badly"))["ends badly"]
    assert (record["state"], record["rows"]) == ("done", [1])


def test_a_part_that_is_cut_off_leaves_what_it_has_measured() -> None:
    record = run(part("half", limit=1.0))["half"]
    assert (record["state"], record["rows"]) == ("cut off", [1])
    assert record["error"] == "it took more than its 1 s: compiling"


def test_what_times_nothing_runs_side_by_side_and_what_is_timed_alone() -> None:
    groups = groups_of([part("a"), part("b", timed=False), part("c", timed=False), part("d"), part("e")])
    assert [[one.name for one in group] for group in groups] == [["a"], ["b", "c"], ["d"], ["e"]]
    assert [one.name for one in groups_of(PARTS.values())[1]] == ["tests", "shapes"]


def test_neighbours_that_time_nothing_take_as_long_as_the_longer() -> None:
    start = time.monotonic()
    records = run(part("slow", timed=False), part("hangs", limit=1.5, timed=False))
    assert time.monotonic() - start < 2.2
    assert records["slow"]["state"] == "done"


def test_no_part_begins_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(part("good"), seconds=runner.LEAST - 1) == {}
    monkeypatch.setattr(runner, "LEAST", 0.2)
    records = run(part("hangs"), part("good"), seconds=0.8)
    assert list(records) == ["hangs"]
    assert str(records["hangs"]["error"]).startswith("it took more than its 1 s")


def test_a_rehearsal_is_more_patient() -> None:
    setting = Setting(folder=Path(), provider="cpu", tiny=True)
    ((_, record),) = run_parts([part("slow", limit=0.4)], setting, seconds=60, command=command)
    assert record["state"] == "done"
    assert run(part("slow", limit=0.4))["slow"]["state"] == "failed"


def test_a_command_carries_the_setting() -> None:
    _, _, module, name, content, out = runner.command_of(part("good"), SETTING, Path("out.json"))
    assert (module, name, out) == ("benchmarks.gpu.part", "good", "out.json")
    assert setting_of(json.loads(content)) == SETTING
