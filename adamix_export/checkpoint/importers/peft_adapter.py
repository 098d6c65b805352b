"""Checkpoints of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

PEFT itself loads the adapter and merges it. Its own layers are read for a bank, so that a configuration means here what
it means there.
"""

import copy
import json
import warnings
from dataclasses import dataclass, fields
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import peft
from peft.utils.other import ModulesToSaveWrapper
from transformers import PreTrainedModel

from adamix_export.checkpoint.checkpoint import Argument, Checkpoint
from adamix_export.checkpoint.collapse import PEFT_PREFIX, AdapterTensors
from adamix_export.checkpoint.facts import Facts
from adamix_export.checkpoint.importers.approximation import approximation
from adamix_export.checkpoint.importers.bank_form import ADAPTER, bank_form
from adamix_export.checkpoint.importers.card import (
    CLASSIFIER,
    Origin,
    configured_labels,
    configured_task_type,
    make_checkpoint,
)
from adamix_export.checkpoint.importers.low_rank import Rank
from adamix_export.checkpoint.importers.mixture import MixtureImporter
from adamix_export.checkpoint.importers.named_base import named_base, tokenizer_folder
from adamix_export.checkpoint.importers.outputs import output_layer
from adamix_export.checkpoint.importers.ranks import require_ranks
from adamix_export.checkpoint.importers.stored import read_tensors, require_all_loaded
from adamix_export.checkpoint.importers.tied import untie_adapted_embeddings
from adamix_export.errors import BankError, ExportError
from adamix_export.tracing.merged import replace_module
from adamix_train.artifacts.checkpoint import CONFIG
from adamix_train.base_model.load import Base, load_config, load_tokenizer
from adamix_train.errors import CheckpointError, first_line, one_line
from adamix_train.peft_method import AdaMixConfig

LOST_BASES = ("pissa_niter", "corda", "loftq", "lora_ga")
"""Starts of LoRA that change the base in a way that cannot be repeated from the checkpoint."""
CONVERSION = (
    "save it as an ordinary LoRA where it was trained: save_pretrained(…, path_initial_model_for_weight_conversion=…)"
)
UNMERGEABLE = {
    "XLORA": "mixes several adapters by each input",
    "POLY": "mixes several adapters by the task of each input",
    "ADAPTION_PROMPT": "adds tokens inside attention",
    "LILY": "weighs its shared matrices anew for each input",
    "SHADOW": "runs a second model beside the base",
}
"""PEFT's methods that are no change of weights, beside those that add tokens to the prompt."""
REFUSED = {
    "megatron_config": "adapts Megatron's layers",
    "layer_replication": "repeats layers of its base",
    "alora_invocation_tokens": "is an aLoRA, which changes only the tokens behind its invocation",
    "arrow_config": "is Arrow's router, which mixes several adapters by each input",
}
"""Fields of LoRA → why an adapter that sets one is no change of the base's weights."""
TASK_HEADS = ("classifier", "score")
"""Modules that PEFT saves beside an adapter of a task with labels."""
TASKS_WITH_HEADS = ("SEQ_CLS", "TOKEN_CLS")


@dataclass(frozen=True)
class PeftImporter:
    """Importer of an adapter that PEFT made."""

    config: peft.PeftConfig
    rank: Rank | None = None
    """Rank of the LoRA as which a bank holds a method that it does not hold exactly; None refuses it."""

    @property
    def kind(self) -> str:
        """PEFT's method, and `dora` for a LoRA with magnitudes."""
        return "dora" if getattr(self.config, "use_dora", False) else str(self.config.peft_type.value).lower()

    @property
    def r(self) -> int:
        """Largest rank; 0 for a method without one."""
        ranks = getattr(self.config, "rank_pattern", None) or {}
        # After training, AdaLoRA has a list that says which ranks were kept.
        return max((getattr(self.config, "r", 0) or 0, *(sum(r) if isinstance(r, list) else r for r in ranks.values())))

    @property
    def num_modules(self) -> int:
        """One: the adapter is no mixture."""
        return 1

    def adapter(self, checkpoint: Checkpoint) -> AdapterTensors:
        """Return the adapter's tensors in the form of a bank."""
        try:
            return bank_form(checkpoint, self.config)
        except BankError:
            if self.rank is None:
                raise
            return approximation(checkpoint, self.rank)

    def reference(self, checkpoint: Checkpoint) -> peft.PeftModel:
        """Return the base with the adapter as PEFT loads it, not merged."""
        folder = checkpoint.folder
        stored = read_tensors(folder)
        require_ranks(self.config, stored, folder)
        base = checkpoint.load_base()
        _require_heads(base, set(stored), checkpoint, taken_whole=self._taken_whole())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of missing tensors, which are errors here
                model = peft.PeftModel.from_pretrained(
                    base.model, str(folder), config=copy.deepcopy(self.config), ignore_mismatched_sizes=True
                )
        except KeyError as error:  # PEFT's name of a tensor of a module that it takes whole
            raise CheckpointError(
                f"{folder} lacks {error.args[0]}, a tensor of a module that modules_to_save, trainable_token_indices "
                f"or the task type {self.config.task_type} names in its {CONFIG}: save the adapter again with it"
            ) from error
        except Exception as error:  # PEFT raises any type where an adapter does not fit
            raise CheckpointError(
                f"{folder} does not fit {checkpoint.base} (target_modules: {_targets(self.config)}): "
                f"{first_line(error)}; if it was trained on another base, name that with --base"
            ) from error
        require_all_loaded(model, stored, folder, checkpoint.base)
        return model.eval()

    def _taken_whole(self) -> set[str]:
        """Return the modules whose tensors PEFT replaces as a whole, or not at all."""
        saved = getattr(self.config, "modules_to_save", None) or ()
        return {*saved, *(TASK_HEADS if self.config.task_type in TASKS_WITH_HEADS else ())}

    def merged(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """Return the base with the adapter merged into it, as PEFT merges."""
        model = self.reference(checkpoint)
        untie_adapted_embeddings(model)
        for name, module in list(model.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):  # some methods leave it behind, and some fail on it
                replace_module(model, name, module.modules_to_save[ADAPTER])
        try:
            merged: PreTrainedModel = model.merge_and_unload()
        except Exception as error:  # a method without a merge raises any type
            raise ExportError(
                f"{checkpoint.folder} cannot be merged into its base, as a method {self.kind} of PEFT: "
                f"{first_line(error)}"
            ) from error
        return merged.requires_grad_(False).eval()


def open_adapter(argument: Argument) -> Checkpoint:
    """Open a folder that PEFT saved; an AdaMix mixture without a card is one too."""
    folder = argument.folder
    config = read_config(folder)
    stored = read_tensors(folder)
    base = named_base(argument, config.base_model_name_or_path, config.revision)
    base_config = load_config(base)
    own_config = load_config(folder) if (folder / "config.json").is_file() else None
    tokenizer = tokenizer_folder(folder, base)
    task_type = getattr(config.task_type, "value", config.task_type)
    outputs = None
    if (task_type or configured_task_type(base_config)) == CLASSIFIER:
        head = stored.get(f"{PEFT_PREFIX}{output_layer(base_config)}.weight")
        own = base_config.num_labels if configured_task_type(base_config) == CLASSIFIER else None
        outputs = own if head is None else head.shape[0]
    mixture = isinstance(config, AdaMixConfig)
    origin = Origin(
        folder=folder,
        base=base,
        config=base_config,
        named_labels=configured_labels(own_config, base_config),
        tokenizer=load_tokenizer(tokenizer),
        task_type=task_type,
        outputs=outputs,
        method="adamix" if mixture else "peft-lora",
    )
    importer = MixtureImporter(config) if mixture else PeftImporter(config, _rank(argument.facts))
    return make_checkpoint(origin, argument, importer, tokenizer_folder=tokenizer)


def read_config(folder: Path) -> peft.PeftConfig:
    """Return the configuration; raise an error for what PEFT would ignore or cannot repeat."""
    try:
        content = json.loads((folder / CONFIG).read_text("utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fields that it does not know, which are errors here
            config: peft.PeftConfig = peft.PeftConfig.from_pretrained(folder)
    except Exception as error:  # PEFT raises any type on a damaged file
        raise CheckpointError(f"{folder / CONFIG} is damaged or of another version: {one_line(error)}") from error
    known = {field.name for field in fields(config)}
    if unknown := sorted(name for name, value in content.items() if value and name not in known):
        raise CheckpointError(
            f"{folder / CONFIG} has {unknown[0]}, which PEFT {version('peft')} does not know: install the version that "
            "wrote it"
        )
    for name, value in content.items():
        if isinstance(value, float) and not isfinite(value):
            raise CheckpointError(f"{folder / CONFIG} has {name} {value}, which is no finite number")
    method = str(config.peft_type.value)
    reason = "adds tokens to every input" if config.is_prompt_learning else UNMERGEABLE.get(method)
    if reason:
        raise ExportError(f"{folder} is a {method} of PEFT, which {reason}: it cannot be exported")
    start = str(getattr(config, "init_lora_weights", ""))
    if start.startswith(LOST_BASES):
        raise ExportError(
            f"{folder} was started with init_lora_weights={start!r}, which changes the base in a way that the "
            f"checkpoint does not hold: {CONVERSION}"
        )
    for field, does in REFUSED.items():
        if getattr(config, field, None):
            raise ExportError(f"{folder} {does} ({field}): it cannot be exported, neither merged nor in a bank")
    return config


def _rank(facts: Facts) -> Rank | None:
    """Return the rank that the user gives, or None."""
    if facts.rank is None and facts.rank_energy is None:
        return None
    return Rank(most=facts.rank, energy=1.0 if facts.rank_energy is None else facts.rank_energy)


def _targets(config: peft.PeftConfig) -> str:
    targets = getattr(config, "target_modules", None)
    return ", ".join(sorted(targets)) if isinstance(targets, list | set) else str(targets)


def _require_heads(base: Base, stored: set[str], checkpoint: Checkpoint, *, taken_whole: set[str]) -> None:
    """Raise a `CheckpointError` if a part of the model has weights neither in the base nor in the checkpoint.

    One that PEFT takes as a whole is an error of its own if a tensor is missing.
    """
    whole = {name.removeprefix(PEFT_PREFIX).replace(".base_layer.", ".") for name in stored}
    for module in base.new_modules:
        own = [f"{module}.{name}" in whole for name, _ in base.model.get_submodule(module).named_parameters()]
        if not any(own) or not (all(own) or module in taken_whole):
            raise CheckpointError(
                f"neither {checkpoint.base} nor {checkpoint.folder} has the weights of {module}: they were random in "
                "training and are lost; train again with modules_to_save naming it, or name the base that has them, "
                "with --base"
            )
