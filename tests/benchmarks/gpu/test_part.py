import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.part import card_of, main
from benchmarks.gpu.setting import Setting


def test_a_part_hands_its_outcome_over_with_the_card(tmp_path: Path) -> None:
    setting = Setting(folder=tmp_path, provider="cpu", tiny=True)
    main(["ceilings", json.dumps(setting.as_dict()), str(tmp_path / "out.json")])
    outcome = json.loads((tmp_path / "out.json").read_text())
    assert outcome["card"] == "none"
    assert len(outcome["rows"]) == 2


def test_the_card_is_named_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    assert card_of(Setting(folder=Path(), provider="cuda")) == "card 0"
