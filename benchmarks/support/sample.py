"""The model that classifier benchmarks share: a LoRA mixture on the sample base, collapsed and merged.

It is LoRA because that folds into the weights: the merged model is a stock BertForSequenceClassification, which every
peer can load. The weights are drawn, not trained; times do not depend on them.
"""

import warnings

import peft
import torch
import transformers
from transformers import PreTrainedModel

from adamix_export.checkpoint.collapse import collapse_checkpoint
from adamix_export.tracing.merged import merge
from adamix_train.base_model.load import load_classifier
from adamix_train.peft_method import AdaMixConfig
from demos.models import sample_model

BASE = "minilm"
SEED = 0
STD = 0.02
LABELS = ["no", "yes"]
TOKEN_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]


def merged_classifier() -> PreTrainedModel:
    """Return the base with one collapsed adapter inside, in evaluation mode, without gradients."""
    _quieten()
    torch.manual_seed(SEED)
    base = sample_model(BASE)
    config = AdaMixConfig(kind="lora", r=8, num_modules=4, task_type="SEQ_CLS")
    mixture = peft.get_peft_model(load_classifier(base, LABELS), config)
    _draw(mixture)
    adapter = collapse_checkpoint(peft.get_peft_model_state_dict(mixture), config)
    return merge(load_classifier(base, LABELS).requires_grad_(False).eval(), adapter)


def _draw(mixture: torch.nn.Module) -> None:
    """Draw every trainable weight: LoRA starts with zeros, and merging them would show nothing."""
    for weight in mixture.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=STD)


def _quieten() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers|peft")
