"""Compile a model for training with torch.compile."""

from collections.abc import Iterator
from contextlib import contextmanager

import peft

from adamix_train.errors import TrainingError, first_line
from adamix_train.peft_method import AdaMixModel
from adamix_train.training.methods import TrainableModel

BACKEND = "inductor"


@contextmanager
def compiled(model: TrainableModel, *, backend: str | None = None) -> Iterator[None]:
    """Compile the forward and backward passes of a model until the block ends.

    What is compiled is the base model with its adapters, without PEFT's wrapper: routes are drawn before it runs, and
    go to it as tensors, so that a new route runs the same code. transformers' own switch, `torch_compile`, would
    compile the draws as well, anew for every route, and turn on TF32.

    Raises:
        TrainingError: torch cannot compile the model here.
    """
    from torch._dynamo.exc import TorchDynamoException  # imported only now, as it takes seconds

    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    tuner = getattr(model, "base_model", None)
    if isinstance(tuner, AdaMixModel):
        tuner.is_compiled = True
    base.compile(backend=backend or BACKEND)
    try:
        yield
    except TorchDynamoException as error:
        reason = first_line(getattr(error, "inner_exception", error))
        raise TrainingError(f"torch.compile failed: {reason}; train without --compile") from error
    finally:
        base._compiled_call_impl = None
        if isinstance(tuner, AdaMixModel):
            tuner.is_compiled = False
