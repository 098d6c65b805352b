"""The programs of openvino-genai and optimum-intel, over a model that counts."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.benchmarks.peers.programs import load_program


def made(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


class Handle:
    """A text that goes on with the next number, one a step; the pipeline reads two prompts a step."""

    def __init__(self, prompt: list[int], count: int) -> None:
        self.next, self.left, self.tokens = prompt[-1] + 1, count, list[int]()

    def step(self) -> None:
        self.tokens.append(self.next)
        self.next, self.left = self.next + 1, self.left - 1

    def can_read(self) -> bool:
        return bool(self.tokens)

    def get_status(self) -> SimpleNamespace:
        return SimpleNamespace(name="RUNNING" if self.left else "FINISHED")

    def read_all(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(generated_ids=self.tokens)]


class Pipeline:
    opened: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def __init__(self, folder: str, *, scheduler_config: Any, device: str, properties: dict[str, Any]) -> None:
        assert (device, scheduler_config.enable_prefix_caching) == ("CPU", False)
        self.opened.append((folder, properties))
        self.handles: list[Handle] = []

    def add_request(self, number: int, ids: Any, config: Any) -> Handle:
        assert config.ignore_eos and not config.do_sample
        self.handles.append(Handle(ids.array[0].tolist(), config.max_new_tokens))
        return self.handles[-1]

    def step(self) -> None:
        waiting = [handle for handle in self.handles if not handle.tokens]
        for handle in waiting[:2] or [one for one in self.handles if one.left]:
            handle.step()

    def generate(self, prompts: list[Any], configs: list[Any]) -> list[SimpleNamespace]:
        texts = []
        for prompt, config in zip(prompts, configs, strict=True):
            handle = Handle(prompt.array[0].tolist(), config.max_new_tokens)
            (adapter,), scale = config.adapters
            assert scale == 1
            handle.next += int(adapter.file.read_text())
            while handle.left:
                handle.step()
            texts.append(SimpleNamespace(m_generation_ids=[handle.tokens]))
        return texts

    def has_non_finished_requests(self) -> bool:
        return any(handle.left for handle in self.handles)


def adapter_config(adapters: Any, scale: float | None = None) -> tuple[list[Any], float | None]:
    """Stand for a configuration of one adapter with its scale, or of those that may be asked for."""
    return (adapters if isinstance(adapters, list) else [adapters]), scale


class Compiled:
    """A model whose logits are the logarithms of 1 to 4, and 5 where the text has been read before."""

    read = 0

    def create_infer_request(self) -> "Compiled":
        return self

    def reset_state(self) -> None:
        self.read = 0

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        (ids,) = inputs["input_ids"]
        assert inputs["attention_mask"].sum() == len(ids) and inputs["beam_idx"].tolist() == [0]
        assert inputs["position_ids"].tolist() == [list(range(len(ids)))]
        self.read += 1
        logits = np.log(np.arange(1, 5) if self.read == 1 else [5.0] * 4)
        return {"logits": np.tile(logits, (1, len(ids), 1)).astype(np.float32)}


class Core:
    compiled: ClassVar[list[tuple[Any, ...]]] = []

    def compile_model(self, *given: Any) -> Compiled:
        self.compiled.append(given)
        return Compiled()


def writer(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Any:
    program = load_program(
        "openvino_genai_decode",
        monkeypatch,
        openvino=made("openvino", Core=Core, Tensor=lambda array: SimpleNamespace(array=array)),
        openvino_genai=made(
            "openvino_genai",
            ContinuousBatchingPipeline=Pipeline,
            GenerationConfig=SimpleNamespace,
            SchedulerConfig=SimpleNamespace,
            Adapter=lambda file: SimpleNamespace(file=file),
            AdapterConfig=adapter_config,
        ),
        numpy=np,
    )
    return program.Writer("folder", *arguments)


def test_requests_are_taken_up_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [{"at": at, "ids": [4], "new": new} for at, new in ((0.0, 3), (0.01, 1), (0.2, 2))]
    long, short, late = writer(monkeypatch).serve({"do": "serve", "requests": requests})
    assert 0 < long["first"] < long["end"] < late["first"] < late["end"]
    assert late["first"] > 0.2 and 0.01 < short["first"] == short["end"]


@pytest.mark.parametrize("hint", [None, "f32"])
def test_a_job_is_answered_with_the_tokens_after_the_prompts(hint: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    Pipeline.opened = []
    found = writer(monkeypatch, *([] if hint is None else [hint])).write(
        {"do": "write", "rows": [[4, 5], [7, 8], [1, 2]], "new": 2}
    )
    assert found["tokens"] == [[6, 7, 8], [9, 10, 11], [3, 4, 5]]
    assert found["prefill"] > 0 and found["decode"] > 0
    ((folder, settings),) = Pipeline.opened
    assert folder == "folder" and settings["INFERENCE_NUM_THREADS"] > 0
    assert settings.get("INFERENCE_PRECISION_HINT") == hint


def test_a_job_goes_through_the_adapter_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, step in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_text(str(step))
    Pipeline.opened = []
    made = writer(monkeypatch, None, tmp_path)
    ((_, settings),) = Pipeline.opened
    known, _ = settings["adapters"]
    assert [adapter.file.parent.name for adapter in known] == ["a", "b"]
    found = made.write({"do": "write", "rows": [[4, 5]], "new": 1, "adapter": "b"})
    assert found["tokens"] == [[26, 27]] and found["whole"] >= 0


def test_texts_are_scored_one_by_one_in_the_same_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    Core.compiled = []
    found = writer(monkeypatch, "f32").score({"do": "score", "rows": [[0, 1, 3], [2, 0]]})
    np.testing.assert_allclose(found[0], -np.log([0.2, 0.4]), rtol=1e-6)
    np.testing.assert_allclose(found[1], -np.log([0.1]), rtol=1e-6)
    ((file, device, settings),) = Core.compiled
    assert (file, device) == ("folder/openvino_model.xml", "CPU")
    assert settings["INFERENCE_PRECISION_HINT"] == "f32"


@pytest.mark.parametrize(("precision", "bits"), [("fp32", None), ("int4", 4)])
def test_a_decoder_is_converted(
    precision: str, bits: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Model:
        @staticmethod
        def from_pretrained(folder: str, **options: Any) -> SimpleNamespace:
            asked.update(options, folder=folder)
            return SimpleNamespace(save_pretrained=lambda out: Path(out).mkdir())

    intel = made("optimum.intel", OVModelForCausalLM=Model, OVWeightQuantizationConfig=SimpleNamespace)
    program = load_program("openvino_genai_export", monkeypatch, **{"optimum.intel": intel})
    program.export("model", str(tmp_path / "made"), precision)
    assert (tmp_path / "made").is_dir()
    assert asked["folder"] == "model" and asked["export"] and not asked["load_in_8bit"]
    assert getattr(asked["quantization_config"], "bits", None) == bits
