from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.benchmarks.peers.programs import load_program


def test_a_classifier_is_saved_as_it_is_and_quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = SimpleNamespace(config=SimpleNamespace(vocab_size=50))
    loaded.eval = lambda: loaded
    saved: dict[str, object] = {}
    openvino = SimpleNamespace(
        convert_model=lambda model, example_input: (model, sorted(example_input)),
        save_model=lambda model, file, compress_to_fp16: saved.setdefault(Path(file).name, model),
    )
    nncf = SimpleNamespace(
        Dataset=list,
        ModelType=SimpleNamespace(TRANSFORMER="transformer"),
        quantize=lambda model, texts, model_type, subset_size: ("int8", len(texts), model_type, subset_size),
    )
    classes = SimpleNamespace(from_pretrained=lambda folder: loaded)
    transformers = SimpleNamespace(AutoModelForSequenceClassification=classes)
    modules = {"openvino": openvino, "nncf": nncf, "transformers": transformers}
    program = load_program("openvino_quantize", monkeypatch, **{name: made(one) for name, one in modules.items()})
    program.convert("folder", str(tmp_path / "out"))
    inputs = ["attention_mask", "input_ids", "token_type_ids"]
    assert saved == {"fp32.xml": (loaded, inputs), "int8.xml": ("int8", 64, "transformer", 64)}


def test_texts_are_drawn_over_the_vocabulary_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load_program("openvino_quantize", monkeypatch)
    first, again = (torch.cat([text["input_ids"] for text in program.random_texts(50)]) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (64, 32)
    assert set(first.unique().tolist()) == set(range(50))


def made(namespace: SimpleNamespace) -> ModuleType:
    module = ModuleType("fake")
    vars(module).update(vars(namespace))
    return module
