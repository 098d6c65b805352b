"""Every method of PEFT: merged as PEFT merges it, in a bank where a bank holds it, else refused by name."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import BankError, ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from docs.peft_methods import METHODS, PAGE, save_adapter
from tests.fixtures.peft_checkpoints import NOISE, make_classifier
from tests.fixtures.tiny_models import tiny_model

pytestmark = pytest.mark.slow

INPUTS = {
    "input_ids": torch.tensor([[2, 12, 5, 13, 3], [2, 7, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2]),
}
REFUSED = {
    "CARTRIDGE": "adds tokens to every input",
    "LILY": "weighs its shared matrices anew",
    "MULTITASK_PROMPT_TUNING": "adds tokens to every input",
    "P_TUNING": "adds tokens to every input",
    "PREFIX_TUNING": "adds tokens to every input",
    "PROMPT_TUNING": "adds tokens to every input",
    "POLY": "mixes several adapters",
    "SHADOW": "runs a second model",
}
"""Method that is no change of weights → reason."""
BANK = ["ADALORA", "IA3", "LN_TUNING", "LORA"]
"""Methods that a bank holds."""
MERGED = [method for method in METHODS if method not in (*BANK, *REFUSED)]


@pytest.fixture(scope="module")
def base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("methods") / "base", tiny_base)


def saved(folder: Path, base: Path, method: str) -> Path:
    """Write an adapter of a method with random weights, whose trained tokens are in the small vocabulary."""
    tokens = {"token_indices": [3, 4, 5]} if method == "TRAINABLE_TOKENS" else {}
    return save_adapter(folder, base, method, noise=NOISE, **tokens)


@pytest.mark.parametrize("method", [*MERGED, *BANK])
def test_a_merged_method_gives_pefts_logits(method: str, base: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(saved(tmp_path / "one", base, method)))
    with torch.inference_mode():
        expected = checkpoint.reference(**INPUTS).logits
        plain = checkpoint.base_model()(**INPUTS).logits
        checkpoint.forget_reference()
        found = checkpoint.merged()(**INPUTS).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected - plain).abs().max() > 1e-2, "the base alone would pass"
    if method in MERGED:
        with pytest.raises(BankError, match=rf"has {method}'s \w+ at .*, which a bank does not hold: .*merged"):
            _ = checkpoint.adapter


@pytest.mark.parametrize("method", ["IA3", "LORA"])
def test_a_head_of_several_layers_is_merged_with_the_adapter(method: str, tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    tiny_model("roberta").save_pretrained(base)
    checkpoint = open_checkpoint(
        str(saved(tmp_path / "one", base, method)), facts=Facts(labels=("no", "yes", "perhaps"))
    )
    with torch.inference_mode():
        expected = checkpoint.reference(**INPUTS).logits
        checkpoint.forget_reference()
        found = checkpoint.merged()(**INPUTS).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_bank_holds_methods_side_by_side(base: Path, tmp_path: Path) -> None:
    checkpoints = [open_checkpoint(str(saved(tmp_path / method, base, method))) for method in BANK]
    reports = EXPORTS["bank"](checkpoints, tmp_path / "bank", Options(), lambda stage: None)
    assert {name: report.max_difference < 1e-4 for name, report in reports.items()} == dict.fromkeys(BANK, True)


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_changes_no_weights_is_refused_by_name(method: str, base: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = saved(tmp_path / "one", base, method)
    with pytest.raises(ExportError, match=rf"is a {method} of PEFT, which {REFUSED[method]}"):
        open_checkpoint(str(folder))


def test_every_method_of_peft_is_in_the_table_and_on_its_page() -> None:
    others = {"ADAMIX", "ADAPTION_PROMPT", "CPT", "XLORA"}
    assert {str(method.value) for method in PEFT_TYPE_TO_CONFIG_MAPPING} - others == set(METHODS)
    listed = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines() if line[:3] > "| -"]
    assert listed[1:] == list(METHODS), "write it again: python -m docs.peft_methods"
