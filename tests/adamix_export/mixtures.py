"""Checkpoints with random weights on tiny random bases: made in a moment, as nothing is trained."""

from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from adamix_train.base import base_sha256, config_sha256, load_base, load_config
from adamix_train.checkpoint import Card, write_card
from adamix_train.methods import make_trained
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.objectives import objective_of
from adamix_train.recipe import Recipe
from adamix_train.tasks.table import TASKS
from tests.adamix_train.conftest import WORDS
from tests.adamix_train.tiny import ENCODERS

TYPED = ("bert", "deberta-v2", "electra")
"""Families whose tokenizers give token types."""
OPPOSITES = ("negative", "positive")


def make_encoder(folder: Path, family: str, **settings: object) -> Path:
    """Make a base without a head, whose weights are large enough for a wrong graph to show."""
    torch.manual_seed(0)
    common = {
        name: value for name, value in ENCODERS[family].items() if name not in ("attn_implementation", "num_labels")
    }
    config = AutoConfig.for_model(family, **{**common, "initializer_range": 0.3, **settings})
    AutoModel.from_config(config).save_pretrained(folder)
    make_tokenizer(typed=family in TYPED).save_pretrained(folder)
    return folder


def make_tokenizer(*, typed: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    second = int(typed)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=f"[CLS]:0 $A:0 [SEP]:0 $B:{second} [SEP]:{second}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if typed else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=60,
        model_input_names=names,
    )


def mixture(folder: Path, base: Path, *, labels: tuple[str, ...] = OPPOSITES, seed: int = 0, **fields: object) -> Path:
    """Write the checkpoint of a mixture with random weights, as a run of `Recipe(**fields)` would leave it."""
    common = {"base": str(base), "out": str(folder), "num_modules": 3, "r": 4, "max_length": 16, "seed": seed}
    recipe = Recipe(**{**common, **fields})
    task = TASKS[recipe.task]
    objective = objective_of(task.kind, encoder_decoder=load_config(base).is_encoder_decoder)
    names = list(labels) if task.kind == "classification" else []
    torch.manual_seed(seed)
    model = make_trained(load_base(base, objective.model, **objective.settings(names)), recipe, objective)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, MixtureLinear):
                module.weight.normal_(std=0.3)
                if module.bias is not None:
                    module.bias.normal_(std=0.3)
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    card = Card(
        base=str(base),
        base_sha256=base_sha256(base),
        config_sha256=config_sha256(base),
        data={},
        task=recipe.task,
        labels=names,
        metric=task.metrics[0],
        max_length=recipe.max_length,
        recipe=asdict(recipe),
    )
    write_card(folder, card)
    return folder
