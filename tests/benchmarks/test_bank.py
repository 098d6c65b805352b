from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from benchmarks import bank
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.rounds import Timing
from tests.fixtures.random_checkpoints import make_encoder, mixture


def test_a_bank_is_held_against_the_plain_graph_and_one_adapter_a_run() -> None:
    times = {bank.PLAIN: 1.0, bank.BANK: 1.1, bank.ALONE: 1.0, bank.FILES: 5.5, bank.EACH: 8.0}
    sides = {name: Timing([seconds]) for name, seconds in times.items()}
    with_peft = sides | {bank.PEFT: Timing([13.2])}
    findings = bank.findings_of({"lora": with_peft, "houlsby": sides}, grown=1.2e9, size=1e6)
    assert [(round(goal.value or 0, 3), goal.met) for goal in findings.goals] == [
        (1.1, False),
        (1.1, True),
        (5.0, True),
        (5.0, True),
        (12.0, True),
        (1.2, False),
    ]
    assert findings.worst.startswith("1.100 (lora")
    assert len(findings.rows) == 11


def test_memory_is_what_the_process_grew_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = SimpleNamespace(tensors={"down": np.zeros((2, 5), np.float32), "up": np.zeros(3, np.float32)})
    monkeypatch.setattr(bank, "open_bundle", lambda folder: SimpleNamespace(folder=folder))
    monkeypatch.setattr(bank, "like", lambda bundle, count, folder: [folder])
    monkeypatch.setattr(bank, "read_adapter", lambda folder: adapter)
    monkeypatch.setattr(bank, "MEMORY", """print('{"before": 100, "after": 350}')""")
    assert bank.memory_of(tmp_path) == (250, 52)
    monkeypatch.setattr(bank, "MEMORY", "import sys; sys.exit('no memory is left')")
    with pytest.raises(BenchmarkError, match="the process with 1000 adapters failed: no memory is left"):
        bank.memory_of(tmp_path)


@pytest.mark.slow
def test_all_ways_through_an_adapter_give_the_same_logits_and_its_bytes_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_encoder(tmp_path / "base", "bert", vocab_size=30000, num_hidden_layers=1)
    run = mixture(tmp_path / "mood", base, kind="lora")
    monkeypatch.setattr(bank, "trained", lambda kind, out: open_checkpoint(str(run)))
    monkeypatch.setattr(bank, "ROWS", 3)
    monkeypatch.setattr(bank, "SESSIONS", 2)
    (tmp_path / "lora").mkdir()
    sides: dict[str, Any] = bank.sides_of("lora", tmp_path / "lora")
    plain, many, same = (
        np.stack([found.logits for found in sides[name]()]) for name in (bank.PLAIN, bank.BANK, bank.ALONE)
    )
    np.testing.assert_allclose(np.concatenate(sides[bank.FILES]()), many, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(sides[bank.EACH]()), plain, atol=1e-4)
    np.testing.assert_allclose(same, many[[0, 0, 0]], atol=1e-4)
    assert sides[bank.PEFT]().shape == plain.shape
    assert min(np.abs(many[one] - many[other]).max() for one, other in ((0, 1), (0, 2), (1, 2))) > 1e-2
    monkeypatch.setattr(bank, "ADAPTERS", 3)
    monkeypatch.setattr(bank, "SLOTS", 2)
    _, size = bank.memory_of(tmp_path / "lora")
    layers, projections, head = 1, 2, 2 * 16 + 2
    assert size == 4 * (layers * projections * (4 * 16 + 16 * 4) + head)
    folders = sorted((tmp_path / "lora" / "thousand").iterdir())
    (folders[1] / "adapter.safetensors").write_bytes(b"")
    monkeypatch.setattr(bank, "like", lambda *_: folders)
    with pytest.raises(BenchmarkError, match=r"the process with 3 adapters failed: .*a1"):
        bank.memory_of(tmp_path / "lora")
