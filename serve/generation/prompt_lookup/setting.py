"""The setting of prompt lookup: how many tokens are guessed, and why a model may go without."""

from tokenizers import Tokenizer

from serve.errors import BundleError
from serve.generation.model_runner import ModelRunner
from serve.generation.prompt_lookup.lookup import PromptLookup
from serve.generation.prompt_lookup.ngrams import token_keys
from serve.loaded_model import LoadedModel
from serve.runtime.device_memory import HOST

DEFAULT = 7
"""Most tokens that are guessed for a step where nothing else is set."""


def prompt_lookup(
    model: LoadedModel, runner: ModelRunner, setting: int | None, tokenizer: Tokenizer | None
) -> PromptLookup:
    """Return the prompt lookup of a model.

    Args:
        model: An open bundle.
        runner: A runner of it.
        setting: Most tokens that are guessed for a step; 0 is none, and None the default where the model can.
        tokenizer: The bundle's tokenizer; None tells all tokens apart.

    Raises:
        BundleError: The setting asks for guesses, and the model goes without.
    """
    manifest = model.bundle.manifest
    if not runner.looks_up:
        if setting:
            raise BundleError(f"{model.bundle.folder} goes without prompt lookup: {_obstacle(model)}")
        return PromptLookup(0, manifest.precision)
    most = DEFAULT if setting is None else setting
    keys = token_keys(tokenizer, runner.vocabulary) if tokenizer is not None and most else None
    return PromptLookup(most, manifest.precision, keys)


def _obstacle(model: LoadedModel) -> str:
    """Return the reason why a model verifies no guesses."""
    if model.encoder is not None:
        return "only a decoder alone verifies guesses; leave out --prompt-lookup"
    if model.device != HOST:
        return "a GPU decodes without guesses; leave out --prompt-lookup"
    return "its graph gives the logits of one token alone; export it again, in fp32 or int4, or leave the flag out"
