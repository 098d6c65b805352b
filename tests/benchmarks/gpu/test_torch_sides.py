from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.torch_sides import Generate, attempt, classify, difference, mask, padded, require_agreement
from benchmarks.support.errors import DisagreementError, PeerError
from tests.fixtures.tiny_models import tiny_model

CPU = Setting(folder=Path(), provider="cpu", tiny=True)
ROWS = [[5, 6, 7, 8], [9, 10, 11, 12]]


def test_rows_are_padded_on_the_right_and_masked_there() -> None:
    assert padded([[5], [6, 7]]).tolist() == [[5, 1], [6, 7]]
    assert mask([[5], [6, 7]]).tolist() == [[1, 0], [1, 1]]


def test_a_batch_gives_the_logits_of_its_rows_alone() -> None:
    model = tiny_model("bert")
    together = classify(model, [[5, 6, 7], [8, 9]], CPU)()
    alone = model(input_ids=torch.tensor([[8, 9]])).logits.detach().numpy()
    np.testing.assert_allclose(together[1:], alone, atol=1e-5)


def test_a_difference_is_a_share_of_the_largest_logit() -> None:
    assert difference(np.array([1.0, -4.0]), np.array([1.0, -5.0])) == pytest.approx(0.2)
    assert require_agreement(np.array([1.0]), np.array([1.01]), "it") == pytest.approx(0.01 / 1.01)
    with pytest.raises(DisagreementError, match=r"one: logits differ by 0\.200 of the largest"):
        require_agreement(np.array([1.0, -4.0]), np.array([1.0, -5.0]), "one")
    with pytest.raises(DisagreementError, match="nan"):
        require_agreement(np.array([np.nan]), np.array([1.0]), "one")


def test_a_peer_that_fails_is_named() -> None:
    def run() -> np.ndarray:
        raise RuntimeError("no compiler\nand more")

    with pytest.raises(PeerError, match=r"^torch\.compile failed: no compiler$"):
        attempt(run, "torch.compile")


@pytest.mark.parametrize("static", [True, False])
def test_generate_writes_the_greedy_tokens(static: bool) -> None:
    model = tiny_model("llama")
    found = Generate(model, CPU, static=static).write(ROWS, 4)
    assert found["decode"] > 0
    ids = torch.tensor(ROWS)
    for _ in range(5):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert found["tokens"] == ids[:, 4:].tolist()


def test_the_logits_after_a_prompt_are_the_models() -> None:
    model = tiny_model("llama")
    found = Generate(model, CPU, static=False).last_logits(ROWS)
    np.testing.assert_allclose(found, model(input_ids=torch.tensor(ROWS)).logits[:, -1].detach().numpy(), atol=1e-6)


def test_a_generate_that_fails_is_named() -> None:
    with pytest.raises(PeerError, match="generate failed: "):
        Generate(tiny_model("llama"), CPU).prepare([[5], [6, 7]], 2)
