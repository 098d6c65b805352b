from pathlib import Path

import peft
import pytest
import torch

from adamix_train.base_model.load import load_classifier
from benchmarks.support import sample
from benchmarks.support.sample import LABELS, merged_classifier
from tests.adamix_train.conftest import make_base


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small base in place of the sample; what transformers says stays as it is."""
    folder = make_base(tmp_path / "base", seed=0)
    monkeypatch.setattr(sample, "sample_model", lambda name: folder)
    monkeypatch.setattr(sample, "_quieten", lambda: None)
    return folder


def test_the_merged_classifier_is_a_stock_one_with_the_logits_of_the_mixture(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixtures: list[peft.PeftModel] = []
    make = peft.get_peft_model
    monkeypatch.setattr(peft, "get_peft_model", lambda *given: mixtures.append(make(*given)) or mixtures[-1])
    merged = merged_classifier()
    assert type(merged) is type(load_classifier(base, LABELS))
    assert not merged.training and not any(weight.requires_grad for weight in merged.parameters())
    rows = {"input_ids": torch.tensor([[2, 4, 9, 3], [2, 8, 11, 3]])}
    with torch.inference_mode():
        (mixture,) = mixtures
        torch.testing.assert_close(merged(**rows).logits, mixture.eval()(**rows).logits)


def test_every_call_gives_the_same_weights_with_an_adapter_in_them(base: Path) -> None:
    one, other = merged_classifier().state_dict(), merged_classifier().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(one[query], load_classifier(base, LABELS).state_dict()[query], atol=1e-3)
