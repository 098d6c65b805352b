from types import ModuleType

import numpy as np
import pytest

from tests.benchmarks.peers.programs import load_program


class Request:
    """A compiled model, whose logits are the sums of its token ids."""

    def infer(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert all(ids.dtype == np.int64 for ids in feed.values())
        return {"logits": feed["input_ids"].sum(1, keepdims=True).astype(np.float32)}


class Core:
    """What compiles a model."""

    asked: tuple[object, ...] = ()

    def compile_model(self, *given: object) -> "Core":
        Core.asked = given
        return self

    def create_infer_request(self) -> Request:
        return Request()


@pytest.mark.parametrize(("hint", "told"), [(["f32"], {"INFERENCE_PRECISION_HINT": "f32"}), ([], {})])
def test_a_batch_is_timed_on_the_usable_cores_with_the_hint_that_is_given(
    hint: list[str], told: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = ModuleType("openvino")
    vars(openvino)["Core"] = Core
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5})
    program = load_program("openvino_classify", monkeypatch, openvino=openvino)
    found = program.Classifier("int8.xml", *hint).classify(
        {"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [1, 1]]}
    )
    assert found["logits"] == [[3.0], [7.0]]
    assert found["seconds"] > 0
    file, device, settings = Core.asked
    assert (file, device) == ("int8.xml", "CPU")
    assert settings == {"INFERENCE_NUM_THREADS": 3, "PERFORMANCE_HINT": "LATENCY"} | told
