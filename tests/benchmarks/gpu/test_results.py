import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.results import Results, load_parts
from benchmarks.gpu.setting import Setting
from benchmarks.support.errors import BenchmarkError


def setting(**fields: Any) -> Setting:
    return Setting(**{"folder": Path(), "provider": "cuda", **fields})


def done(**fields: Any) -> dict[str, Any]:
    common = {"state": "done", "seconds": 3.0, "card": "NVIDIA H100", "rows": [{"case": "1x16", "ms": 0.25}]}
    return {**common, "figures": {}, "notes": ["A note."], "absent": [], "versions": {"torch": "2.11"}, **fields}


FAILED = {"state": "failed", "seconds": 60.0, "error": "it took more than its 60 s: compiling"}


def results(**fields: Any) -> Results:
    parts = {"banks": FAILED, "ceilings": done(figures={"large_share": 0.6})}
    return Results(setting=setting(**fields), command="python -m benchmarks.gpu", parts=parts)


def test_a_later_call_knows_what_is_done(tmp_path: Path) -> None:
    results().save(tmp_path / "gpu.json")
    again = Results(setting=setting(), command="", parts=load_parts(tmp_path / "gpu.json", setting()))
    assert again.is_done("ceilings") and not again.is_done("banks") and not again.is_done("train")
    assert list(again.parts) == ["ceilings", "banks"]
    assert load_parts(tmp_path / "none.json", setting()) == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


def test_the_table_has_the_card_the_goals_and_every_part(tmp_path: Path) -> None:
    results().save(tmp_path / "gpu.json")
    table = (tmp_path / "gpu.md").read_text()
    assert table.startswith("# GPU: NVIDIA H100\n")
    assert "- met: RoBERTa-large shape, fp16, 64x128: share of the matrix rate: 0.600" in table
    assert "| 1x16 | 0.250 |" in table
    assert "## banks: failed, 60 s\n\n**FAILED:** it took more than its 60 s: compiling" in table
    assert "REHEARSAL" not in table


def test_a_part_that_was_cut_off_shows_what_it_has_and_is_not_done() -> None:
    cut = results()
    cut.parts["banks"] = done(state="cut off", error="it took more than its 60 s: compiling", figures={"mixed": 2.0})
    assert "**CUT OFF:** it took more than its 60 s: compiling\n\nCard: NVIDIA H100" in cut.as_markdown()
    assert not cut.is_done("banks")
    assert [goal.value for goal in cut.goals if goal.what.startswith("mixed")] == [2.0]


def test_a_rehearsal_says_so_and_meets_no_goal() -> None:
    rehearsal = results(provider="cpu", tiny=True)
    assert "REHEARSAL" in rehearsal.as_markdown()
    assert all(goal.value is None for goal in rehearsal.goals)


def test_results_of_several_cards_name_all(tmp_path: Path) -> None:
    both = results()
    both.parts["train"] = done(card="NVIDIA H200")
    assert both.as_dict()["cards"] == ["NVIDIA H100", "NVIDIA H200"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is no result of this benchmark: name another file with --json"),
        ("[1", "is no result of this benchmark"),
        (json.dumps({"parts": {}, "provider": "cpu", "tiny": True}), "has the results of a rehearsal with cpu"),
        (json.dumps({"parts": {}, "provider": "cpu", "tiny": False}), "has the results of a run with cpu"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "gpu.json").write_text(content)
    with pytest.raises(BenchmarkError, match=message):
        load_parts(tmp_path / "gpu.json", setting())
