"""The choice to capture steps, over the paths of a device; the CPU ignores the option that would capture a run."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve import loaded_model
from serve.generation.generator import Generator
from serve.generation.model_runner import ModelRunner
from serve.generation.step_outputs import StepLogits
from serve.sampling_params import SamplingParams
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.fixtures.device_seam import FakeCudaRuntime

Run = Callable[..., StepLogits]


@pytest.fixture
def bundle(tmp_path: Path, device_paths: FakeCudaRuntime, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(loaded_model, "captures_graphs", lambda session: True)
    return write_byte_bundle(tmp_path / "bytes", HERMES)


def text_of(generator: Generator) -> list[int]:
    (result,) = generator("a text", adapter="north", sampling=SamplingParams(max_new_tokens=6, ignore_eos=True))
    return list(result.tokens)


def change_captured_steps(monkeypatch: pytest.MonkeyPatch, change: Callable[[Run, Any], StepLogits]) -> None:
    run = ModelRunner.run

    def changed(self: ModelRunner, *args: Any, behind: Any = None, **others: Any) -> StepLogits:
        def plain() -> StepLogits:
            return run(self, *args, behind=behind, **others)

        return change(plain, self) if self.captures and behind is not None else plain()

    monkeypatch.setattr(ModelRunner, "run", changed)


def test_steps_that_replay_rightly_stay_captured(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    generator = Generator(bundle, provider="cpu")
    assert generator.model.captures
    assert len(text_of(generator)) == 6
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_steps_that_cannot_be_captured_run_without(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(plain: Run, runner: Any) -> StepLogits:
        raise RuntimeError("operation not permitted when stream is capturing")

    change_captured_steps(monkeypatch, fails)
    generator = Generator(bundle, provider="cpu")
    assert not generator.model.captures
    assert len(text_of(generator)) == 6
    assert "not captured in CUDA graphs: operation not permitted when stream is capturing" in caplog.text


@pytest.mark.parametrize("wrong", [2.0, np.nan])
def test_steps_that_replay_wrongly_run_without(
    wrong: float, bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(plain: Run, runner: Any) -> StepLogits:
        found = plain()
        logits = found.all() * np.float32(wrong)
        return StepLogits(found.likeliest, found.is_finite, lambda rows: logits[list(rows)])

    change_captured_steps(monkeypatch, changed)
    generator = Generator(bundle, provider="cpu")
    assert not generator.model.captures
    assert len(text_of(generator)) == 6
    assert "logits of a replayed step differ by " in caplog.text
