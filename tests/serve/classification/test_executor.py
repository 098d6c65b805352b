"""Runs of a classifier over the paths of a device, against those of the host."""

import numpy as np
import pytest

from serve.bundle.reader import Bundle
from serve.classification import executor
from serve.classification.classifier import Classifier
from serve.classification.executor import captured_shape, max_captured_tokens, padded
from tests.fixtures.device_seam import FakeCudaRuntime

TEXTS = ["good", "the bill is late", "bad " * 7, "very good", "late"]
NAMES = ["tone", "intent", "tone", "intent", "tone"]


@pytest.mark.parametrize("captures", [False, True])
def test_a_device_gives_the_logits_of_the_host(
    captures: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    expected = Classifier(bundle, provider="cpu")(TEXTS, adapter=NAMES)
    runtime: FakeCudaRuntime = request.getfixturevalue("device_paths")
    monkeypatch.setattr(executor, "captures_graphs", lambda session: captures)
    classifier = Classifier(bundle, provider="cpu", slots=1)
    runtime.copies.clear()
    for _ in range(2):  # the second time with what was bound before
        for one, other in zip(classifier(TEXTS, adapter=NAMES), expected, strict=True):
            np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)
    found = classifier.runner.executor
    assert isinstance(found, executor.DeviceExecutor)
    assert bool(found.captured.options) == captures


def test_stacks_that_were_widened_are_captured_anew(
    bundle: Bundle, device_paths: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "captures_graphs", lambda session: True)
    classifier = Classifier(bundle, provider="cpu")
    classifier("good", adapter="tone")
    found = classifier.runner.executor
    assert isinstance(found, executor.DeviceExecutor)
    before = dict(found.captured.options)
    assert classifier.bank is not None
    classifier.bank._widen({**classifier.bank.widths, "slots": 9})
    again = classifier("good", adapter="tone")[0]
    assert not before.items() & found.captured.options.items()
    np.testing.assert_allclose(
        again.logits, Classifier(bundle, provider="cpu")("good", adapter="tone")[0].logits, atol=1e-5
    )


@pytest.mark.parametrize(
    ("rows", "tokens", "shape"),
    [(1, 1, (1, 16)), (3, 17, (4, 32)), (64, 16, (64, 16)), (64, 17, None), (1, 129, None), (8, 128, (8, 128))],
)
def test_a_short_batch_takes_the_smallest_shape_that_has_room(
    rows: int, tokens: int, shape: tuple[int, int] | None
) -> None:
    assert captured_shape(rows, tokens, 1024) == shape


@pytest.mark.parametrize(("width", "largest"), [(384, (64, 128)), (768, (16, 128)), (1024, (8, 128)), (None, (8, 128))])
def test_the_wider_a_model_the_smaller_its_largest_captured_batch(width: int | None, largest: tuple[int, int]) -> None:
    limit = max_captured_tokens(width)
    sizes = [size for size in (8, 16, 32, 64) if captured_shape(size, 128, limit)]
    assert (sizes[-1], 128) == largest


def test_rows_that_make_a_batch_full_attend_to_one_token() -> None:
    arrays = {"input_ids": np.array([[5, 6]]), "attention_mask": np.array([[1, 1]]), "adapter_ids": np.array([3])}
    assert {name: array.tolist() for name, array in padded(arrays, 2, 3).items()} == {
        "input_ids": [[5, 6, 0], [0, 0, 0]],
        "attention_mask": [[1, 1, 0], [1, 0, 0]],
        "adapter_ids": [3, 0],
    }
