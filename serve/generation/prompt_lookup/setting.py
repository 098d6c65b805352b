"""The setting of prompt lookup: how many tokens are guessed, and why a model may go without."""

from tokenizers import Tokenizer

from serve.errors import BundleError
from serve.generation.model_runner import ModelRunner
from serve.generation.prompt_lookup.lookup import PromptLookup
from serve.generation.prompt_lookup.ngrams import token_keys
from serve.loaded_model import LoadedModel
from serve.runtime.device_memory import HOST


def prompt_lookup(model: LoadedModel, runner: ModelRunner, most: int, tokenizer: Tokenizer | None) -> PromptLookup:
    """Return the prompt lookup of a model.

    Args:
        model: An open bundle.
        runner: A runner of it.
        most: Most tokens that are guessed for a step; 0 is none.
        tokenizer: The bundle's tokenizer; None tells all tokens apart.

    Raises:
        BundleError: There are to be guesses, and the model goes without.
    """
    if most and not runner.looks_up:
        raise BundleError(f"{model.bundle.folder} goes without prompt lookup: {_obstacle(model)}")
    keys = token_keys(tokenizer, runner.vocabulary) if most and tokenizer is not None else None
    return PromptLookup(most, model.bundle.manifest.precision, keys)


def _obstacle(model: LoadedModel) -> str:
    """Return the reason why a model verifies no guesses."""
    if model.encoder is not None:
        return "only a decoder alone verifies guesses; leave out --prompt-lookup"
    if model.device != HOST:
        return "a GPU decodes without guesses; leave out --prompt-lookup"
    return "its graph gives the logits of one token alone; export it again, in fp32 or int4, or leave the flag out"
