"""huggingface_hub's InferenceClient against live servers."""

from pathlib import Path

import pytest

from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from serve.sampling_params import SamplingParams
from tests.interop.conftest import Ask

pytestmark = pytest.mark.slow


def test_texts_and_labels_are_those_of_the_engines(
    ask: Ask, writer: str, classifiers: str, writer_folder: Path, bank_folder: Path
) -> None:
    found = ask("openai", writer, classifiers, script="huggingface_client.py")
    written, classified = found["written"], found["classified"]
    generator = Generator(writer_folder, provider="cpu", threads=1)
    (prompt,) = [generator.prompt("ab", "north")]
    (result,) = generator.generate([prompt], sampling=SamplingParams(max_new_tokens=6))
    (drawn,) = generator.generate(
        [prompt], sampling=SamplingParams(max_new_tokens=6, temperature=1.0, top_p=0.9, seed=1)
    )
    assert written["whole"] == written["streamed"] == written["named"] == written["last"] == result.text
    assert written["details"] == [result.text, "length", list(result.tokens)]
    assert written["drawn"] == drawn.prompt_text + drawn.text
    assert written["chat"] == written["streamed_chat"]
    (tone,) = Classifier(bank_folder, provider="cpu", threads=1)("very good", adapter=["tone"])
    best = int(tone.logits.argmax())
    assert classified["all"] == [
        [tone.label, pytest.approx(float(tone.scores[best]))],
        [tone.labels[1 - best], pytest.approx(float(tone.scores[1 - best]))],
    ]
    assert classified["first"] == [tone.label]
    assert classified["logits"] == pytest.approx(sorted(tone.logits.tolist(), reverse=True))
    assert found["refused"] == ["UnknownError", "ValidationError"]
