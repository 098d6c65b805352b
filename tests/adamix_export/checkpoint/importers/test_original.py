"""Checkpoints with the names of microsoft/AdaMix: the mean of their modules, computed here by hand."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.checkpoint.members import with_members
from adamix_export.errors import BankError, ExportError
from adamix_train.errors import BaseError, CheckpointError
from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import make_encoder

FILE = "expert_soup.safetensors"
FACTS = Facts(labels=("no", "yes"))
MODULES, R, WIDTH = 3, 4, 16
LAST = "roberta.encoder.layer.1.output.ExpertSoup.MoA_B.deepspeed_experts.0.weight"
IDS = torch.tensor([[4, 12, 5, 13], [7, 3, 9, 8]])


def soups(prefix: str, layers: int = 2) -> dict[str, Tensor]:
    """Bottlenecks with several `down` and one `up`, as the released checkpoints have them."""
    tensors: dict[str, Tensor] = {}
    for layer in range(layers):
        soup = f"{prefix.format(layer)}.ExpertSoup"
        for side, modules, shape in (("MoA_A", MODULES, (R, WIDTH)), ("MoA_B", 1, (WIDTH, R))):
            tensors[f"{soup}.{side}.expert_score_weight"] = torch.zeros(modules)
            for module in range(modules):
                tensors[f"{soup}.{side}.deepspeed_experts.{module}.weight"] = 0.3 * torch.randn(shape)
                tensors[f"{soup}.{side}.deepspeed_experts.{module}.bias"] = 0.3 * torch.randn(shape[:1])
    return tensors


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("base"), "roberta")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of NLU."""
    torch.manual_seed(0)
    head = {
        "classifier.dense.weight": torch.randn(WIDTH, WIDTH),
        "classifier.dense.bias": torch.randn(WIDTH),
        "classifier.out_proj.weight": torch.randn(2, WIDTH),
        "classifier.out_proj.bias": torch.randn(2),
    }
    path = tmp_path / "mnli"
    path.mkdir()
    save_file({**soups("roberta.encoder.layer.{}.output"), **head}, path / FILE)
    return path


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_writer(tmp_path_factory.mktemp("gpt2"), "gpt2", initializer_range=0.2)


def generator(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.mkdir()
    save_file(tensors, path / FILE, metadata)
    return path


def change(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE)


def hook(model: torch.nn.Module, module: str, adapt: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Let a function of a layer's input and output replace its output."""
    model.get_submodule(module).register_forward_hook(lambda layer, inputs, y: adapt(inputs[0], y))


def by_hand(tensors: dict[str, Tensor], soup: str, activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Bottleneck of the mean of the modules, behind a layer."""
    a = [tensors[f"{soup}.MoA_A.deepspeed_experts.{module}.weight"] for module in range(MODULES)]
    a_bias = [tensors[f"{soup}.MoA_A.deepspeed_experts.{module}.bias"] for module in range(MODULES)]
    b, b_bias = (tensors[f"{soup}.MoA_B.deepspeed_experts.0.{name}"] for name in ("weight", "bias"))

    def adapt(x: Tensor, y: Tensor) -> Tensor:
        h = activation(functional.linear(y, sum(a) / MODULES, sum(a_bias) / MODULES))
        return y + functional.linear(h, b, b_bias)

    return adapt


def logits(model: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def test_a_classifier_is_the_mean_of_its_modules(folder: Path, base: Path) -> None:
    tensors = load_file(folder / FILE)
    checkpoint = open_checkpoint(str(folder), base=str(base), facts=FACTS)
    assert (checkpoint.kind, checkpoint.r, checkpoint.num_modules, checkpoint.labels) == (
        "bottleneck",
        R,
        MODULES,
        ["no", "yes"],
    )
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval()
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if "classifier" in name}, strict=False)
    for layer in range(2):
        output = f"roberta.encoder.layer.{layer}.output"
        hook(model, f"{output}.dense", by_hand(tensors, f"{output}.ExpertSoup", functional.gelu))
    for found in (checkpoint.reference, checkpoint.merged()):
        torch.testing.assert_close(logits(found), logits(model), rtol=0, atol=1e-5)
    down = checkpoint.adapter["roberta.encoder.layer.1.output.dense.houlsby.down.weight"]
    soup = "roberta.encoder.layer.1.output.ExpertSoup.MoA_A.deepspeed_experts"
    torch.testing.assert_close(down, sum(tensors[f"{soup}.{module}.weight"] for module in range(MODULES)) / MODULES)


def test_scores_weigh_the_mean_and_a_module_is_a_member(folder: Path, base: Path) -> None:
    soup = "roberta.encoder.layer.0.output.ExpertSoup.MoA_A"
    change(folder, lambda tensors: tensors[f"{soup}.expert_score_weight"].copy_(torch.tensor([2.0, 1.0, 1.0]).log()))
    tensors = load_file(folder / FILE)
    mean, *members = with_members([open_checkpoint(str(folder), base=str(base), facts=FACTS)])
    name = "roberta.encoder.layer.0.output.dense.houlsby.down.weight"
    first, second, third = (tensors[f"{soup}.deepspeed_experts.{module}.weight"] for module in range(MODULES))
    torch.testing.assert_close(mean.adapter[name], first / 2 + second / 4 + third / 4)
    torch.testing.assert_close(members[1].adapter[name], second)


def test_lora_of_gpt2_is_the_mean_in_query_and_value(writer: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    alpha, tensors, width = 8.0, {}, WIDTH
    halves = [(slice(0, R), slice(0, width)), (slice(R, 2 * R), slice(width, 2 * width))]
    for layer in range(2):
        site = f"module.transformer.h.{layer}.attn.c_attn"
        tensors |= {f"{site}.experts_lora_A.{module}": torch.randn(2 * R, width) for module in range(MODULES)}
        tensors |= {f"{site}.experts_lora_B.0": torch.randn(2 * width, R), f"{site}.lora_B_w": torch.zeros(1)}
        tensors[f"{site}.lora_expert_score_weight"] = torch.zeros(MODULES)
    folder = generator(tmp_path / "e2e", tensors, {"lora_alpha": "8"})
    checkpoint = open_checkpoint(str(folder), base=str(writer))
    assert (checkpoint.kind, checkpoint.r, checkpoint.num_modules) == ("lora", R, MODULES)
    model = AutoModelForCausalLM.from_pretrained(writer).eval()
    for layer in range(2):
        site = f"module.transformer.h.{layer}.attn.c_attn"
        a = sum(tensors[f"{site}.experts_lora_A.{module}"] for module in range(MODULES)) / MODULES
        b = tensors[f"{site}.experts_lora_B.0"]

        def adapt(x: Tensor, y: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            query, value = (x @ a[half].T @ b[out].T * alpha / R for half, out in halves)
            return y + torch.cat([query, torch.zeros_like(query), value], -1)

        hook(model, f"transformer.h.{layer}.attn.c_attn", adapt)
    for found in (checkpoint.reference, checkpoint.merged()):
        torch.testing.assert_close(logits(found), logits(model), rtol=0, atol=1e-4)
    assert checkpoint.adapter["transformer.h.1.attn.c_attn.lora.up.weight"].shape == (3 * width, 2 * R)


def test_a_bottleneck_of_gpt2_has_the_other_gelu_and_is_merged_alone(writer: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = soups("transformer.h.{}.mlp")
    checkpoint = open_checkpoint(str(generator(tmp_path / "e2e", tensors)), base=str(writer))
    model = AutoModelForCausalLM.from_pretrained(writer).eval()
    for layer in range(2):
        mlp = f"transformer.h.{layer}.mlp"
        adapt = by_hand(tensors, f"{mlp}.ExpertSoup", lambda x: functional.gelu(x, approximate="tanh"))
        hook(model, f"{mlp}.c_proj", adapt)
    for found in (checkpoint.reference, checkpoint.merged()):
        torch.testing.assert_close(logits(found), logits(model), rtol=0, atol=1e-4)
    with pytest.raises(BankError, match="has the activation gelu_new; a bank holds gelu"):
        _ = checkpoint.adapter


def test_the_conversion_in_the_documentation_works(writer: Path, tmp_path: Path) -> None:
    """A whole GPT-2 of NLG, wrapped in a dictionary and with its tied and cached weights, becomes the adapter alone."""
    page = (Path(__file__).parents[4] / "docs" / "export.md").read_text("utf-8")
    code = page.partition('mkdir mnli && python -c "')[2].partition('" pytorch_model_mnli_expert_soup.bin mnli')[0]
    whole = {**soups("transformer.h.{}.mlp"), "transformer.wte.weight": torch.ones(4, 4)}
    torch.save(
        {"model_state_dict": {**whole, "lm_head.decoder.weight": whole["transformer.wte.weight"]}}, tmp_path / "a.pt"
    )
    (tmp_path / "e2e").mkdir()
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.pt", tmp_path / "e2e"], check=True)
    assert load_file(tmp_path / "e2e" / FILE).keys() == soups("transformer.h.{}.mlp").keys()
    assert open_checkpoint(str(tmp_path / "e2e"), base=str(writer)).num_modules == MODULES


@pytest.mark.parametrize("name", ["pytorch_model_expert_soup.bin"])
def test_a_pickle_is_refused_with_a_conversion_that_works(name: str, folder: Path, base: Path) -> None:
    before = load_file(folder / FILE)
    torch.save(before, folder / name)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is a pickle, which is not read; .* convert it: py") as error:
        open_checkpoint(str(folder), base=str(base), facts=FACTS)
    subprocess.run([sys.executable, "-c", str(error.value).partition('python -c "')[2].rstrip('"')], check=True)
    assert open_checkpoint(str(folder), base=str(base), facts=FACTS).num_modules == MODULES


def test_facts_that_the_file_does_not_state_are_asked_for(folder: Path, base: Path, writer: Path) -> None:
    with pytest.raises(BaseError, match="does not name its base: name it with --base"):
        open_checkpoint(str(folder), facts=FACTS)
    with pytest.raises(ExportError, match=r"names its 2 labels: name them.*--labels"):
        open_checkpoint(str(folder), base=str(base))


def test_a_lora_without_its_alpha_is_refused(writer: Path, base: Path, tmp_path: Path) -> None:
    tensors = {"transformer.h.0.attn.c_attn.experts_lora_A.0": torch.ones(2, 2)}
    folder = generator(tmp_path / "e2e", tensors)
    with pytest.raises(CheckpointError, match="does not say LoRA's alpha in its metadata: convert it again"):
        open_checkpoint(str(folder), base=str(writer))
    with pytest.raises(ExportError, match="its base is a roberta: name GPT-2 with --base"):
        open_checkpoint(str(folder), base=str(base))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop("classifier.out_proj.bias"), r"lacks classifier\.out_proj\.bias"),
        (lambda tensors: tensors.pop(LAST), r"lacks encoder\.layer\.1\.output\.ExpertSoup\.MoA_B.*\.weight"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "has 1 tensors that have no place in the model"),
        (
            lambda tensors: tensors.update({name: torch.ones(3, 3) for name in tensors if "experts.1.weight" in name}),
            "is 3 × 3, and the model takes 4 × 16",
        ),
        (
            lambda tensors: [tensors.pop(name) for name in list(tensors) if "score" in name],
            r"lacks encoder\.layer\.0\.output\.ExpertSoup\.MoA_A\.expert_score_weight with a score for each of 3",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    damage: Callable[[dict[str, Tensor]], object], message: str, folder: Path, base: Path
) -> None:
    change(folder, damage)
    with pytest.raises(CheckpointError, match=message):
        _ = open_checkpoint(str(folder), base=str(base), facts=FACTS).adapter


def test_a_base_of_another_family_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is a distilbert, and microsoft/AdaMix adapts bert, roberta, gpt2"):
        open_checkpoint(str(folder), base=str(make_encoder(tmp_path / "base", "distilbert")), facts=FACTS)
    with pytest.raises(CheckpointError, match=r"no place in the model|lacks"):
        _ = open_checkpoint(str(folder), base=str(make_encoder(tmp_path / "bert", "bert")), facts=FACTS).adapter
