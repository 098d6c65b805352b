from pathlib import Path

import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.precision.table import PRECISIONS
from adamix_export.tasks.table import EXPORT_TASKS
from adamix_train.training.objectives import OBJECTIVES
from serve.engines import ENGINES
from tests.adamix_export.conftest import MakeGenerative
from tests.fixtures.random_checkpoints import make_encoder, mixture

BUILT_IN = 8
"""Canary and probe texts of a classifier."""


def test_every_training_objective_can_be_exported_in_a_precision_and_served() -> None:
    assert EXPORT_TASKS.keys() == OBJECTIVES.keys()
    assert EXPORT_TASKS.keys() == PRECISIONS["fp32"].keys()
    assert {task.tag for task in EXPORT_TASKS.values()} == ENGINES.keys()


def test_canaries_of_an_encoder_decoder_are_written_by_its_decoder(generative: MakeGenerative) -> None:
    checkpoint = open_checkpoint(str(generative("t5", "houlsby")))
    card = EXPORT_TASKS[checkpoint.objective_name].canaries(checkpoint)
    for ids, tokens, logits in zip(card["canary_ids"], card["canary_tokens"], card["canary_logits"], strict=True):
        assert ids[-1] == checkpoint.tokenizer.eos_token_id
        inputs = {"input_ids": torch.tensor([ids]), "decoder_input_ids": torch.tensor([[0, *tokens[:-1]]])}
        with torch.inference_mode():
            expected = checkpoint.reference(**inputs).logits[0]
        assert tokens == expected.argmax(-1).tolist()
        assert logits == pytest.approx(expected.max(-1).values.tolist(), abs=1e-4)


def test_decoders_and_classifiers_are_calibrated(generative: MakeGenerative, tmp_path: Path, tiny_data: Path) -> None:
    encoder = mixture(tmp_path / "run", make_encoder(tmp_path / "base", "distilbert"), train_file=str(tiny_data))
    counts = {}
    for run in (generative("gpt2", "lora"), generative("t5", "houlsby"), encoder):
        checkpoint = open_checkpoint(str(run))
        texts = EXPORT_TASKS[checkpoint.objective_name].calibration_texts(checkpoint, None, 4)
        counts[checkpoint.objective_name] = len(texts)
    assert counts == {"generation": 4, "sequence-to-sequence": 0, "classification": BUILT_IN + 4}
