"""Write what travels: tokenizers, configurations, texts, and MiniLM's bundles and merged weights in fp16."""

import shutil
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.gpu.bundles import make_bundle
from benchmarks.gpu.checkpoints import make_weights
from benchmarks.gpu.models import GENERATION, MODELS, TINY_VOCABULARY, WEIGHTS, Model, bundles_of
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.shapes import quieten
from benchmarks.gpu.texts import write_texts
from benchmarks.support.errors import BenchmarkError
from demos.models import sample_model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CONFIG = "config.json"
TYPED = ("bert",)
"""Families that take token types."""


def prepare(setting: Setting, *, weights: bool = False) -> None:
    """Write the folder of a setting; with `weights` SmolLM2's own travel, and not its shape alone.

    Raises:
        BenchmarkError: The folder is there already.
    """
    if setting.folder.exists():
        raise BenchmarkError(f"{setting.folder} exists: name another folder, or remove it")
    quieten()
    for name, model in MODELS.items():
        base = setting.base(name)
        base.mkdir(parents=True)
        _write_tokenizer(model, base, tiny=setting.tiny)
        _write_config(model, base, tiny=setting.tiny)
        if model.prepared or (weights and not model.config):
            _write_weights(model, base, tiny=setting.tiny)
    for name in bundles_of(prepared=True):
        print(f"exporting {name}", file=sys.stderr, flush=True)
        make_bundle(name, setting)
    for name, model in MODELS.items():
        if model.prepared:
            (setting.base(name) / WEIGHTS).unlink()
    where = write_texts(setting)
    print(f"{setting.folder}: {_megabytes(setting.folder):.1f} MB; texts: {where}", file=sys.stderr)


def _write_tokenizer(model: Model, base: Path, *, tiny: bool) -> None:
    typed = model.family in TYPED
    names = ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"]
    if tiny:
        tokenizer = _word_tokenizer(names, typed=typed)
    else:
        tokenizer = AutoTokenizer.from_pretrained(sample_model(model.sample), model_input_names=names)
    tokenizer.save_pretrained(base)


def _write_config(model: Model, base: Path, *, tiny: bool) -> None:
    if tiny or model.config:
        AutoConfig.for_model(model.family, **(model.tiny if tiny else model.config)).save_pretrained(base)
    else:
        shutil.copy(sample_model(model.sample) / CONFIG, base / CONFIG)


def _write_weights(model: Model, base: Path, *, tiny: bool) -> None:
    """Write the weights of a sample model, a generator's in fp16; in a rehearsal random ones."""
    if tiny:
        make_weights(model, base)
    elif model.task == GENERATION:
        AutoModelForCausalLM.from_pretrained(sample_model(model.sample), dtype="float16").save_pretrained(base)
    else:
        shutil.copy(sample_model(model.sample) / WEIGHTS, base / WEIGHTS)


def _word_tokenizer(names: list[str], *, typed: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer of made-up words, for rehearsals that download nothing."""
    words = [*SPECIAL, *(f"w{index}" for index in range(TINY_VOCABULARY - len(SPECIAL)))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair=f"[CLS]:0 $A:0 [SEP]:0 $B:{int(typed)} [SEP]:{int(typed)}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_max_length=512,
        model_input_names=names,
    )


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
