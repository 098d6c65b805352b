"""Errors of serving. Protocols alone map them to status codes.

ServeError
├── BundleError            a bundle or adapter is damaged, incomplete, or does not fit
├── ProviderError          ONNX Runtime cannot run on the requested provider
├── ConfigurationError     a configuration or a variable of the environment has a wrong value
├── UnknownAdapter         a request names an adapter that is not loaded
├── AdapterFailed          a request names an adapter that is there and cannot be loaded
├── InputError             a request has invalid input
├── NotAuthenticated       a request has no known API key
├── NotAllowed             a request asks for what this server lets no client do
├── Overloaded             a queue is full, or memory is short
├── ClassificationFailed   ONNX Runtime cannot run a text, or its adapter gives logits that are not finite
├── GenerationFailed       ONNX Runtime cannot run a sequence, or its adapter gives logits that are not finite
├── DeadlineExceeded       a request waited too long in the queue
├── NotReady               the server is warming up
├── DeviceLost             the GPU failed, and runs nothing more in this process
└── ShuttingDown           the server is stopping
"""

import re
from collections.abc import Mapping

LOST_CODES = frozenset({46, 100, 101, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})
"""Errors of CUDA's runtime after which a process can use its GPU no more, such as 700, an illegal memory access."""
FAILURE = re.compile(
    r"CUDA (?:failure|error)\D{0,3}(?P<code>\d+)[^;\n]*"
    r"|CU(?:BLAS|DNN) failure\D{0,3}\d+\D{0,3}CU(?:BLAS|DNN)_STATUS_EXECUTION_FAILED"
    r"|an illegal memory access was encountered|unspecified launch failure"
)
"""Parts of ONNX Runtime's messages that tell of a failure of CUDA."""
LOST = "this process can use it no more: start the server again"


class ServeError(Exception):
    """Base class; the message is one line that says what was found, what was expected, and what to do."""

    field: str | None = None
    """Field of the request that is at fault, as the engine calls it; None if it is none."""


class BundleError(ServeError):
    """A bundle or adapter is damaged, incomplete, or does not fit."""


class ProviderError(ServeError):
    """ONNX Runtime cannot run on the requested provider."""


class ConfigurationError(ServeError):
    """A configuration, or a variable of the environment, has an unknown key or a wrong value."""


class UnknownAdapter(ServeError):
    """A request names an adapter that is not loaded."""

    field = "adapter"


class AdapterFailed(ServeError):
    """A request names an adapter that is there and cannot be loaded: its files have to be mended."""

    field = "adapter"


class InputError(ServeError):
    """A request has invalid input: an empty text, a text that is too long, a parameter out of range."""

    def __init__(self, message: str, field: str | None = None) -> None:
        """Refuse a request, for the sake of one of its fields where it is one; the message names it too."""
        super().__init__(message)
        self.field = field


class NotAuthenticated(ServeError):
    """A request has no API key, or one that is unknown."""


class NotAllowed(ServeError):
    """A request asks for what this server lets no client do."""


class Overloaded(ServeError):
    """A queue is full or too slow, or memory is short: try again later."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        """Refuse a request that may succeed after so many seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class ClassificationFailed(ServeError):
    """ONNX Runtime cannot run a text, or its adapter gives logits that are not finite."""


class GenerationFailed(ServeError):
    """ONNX Runtime cannot run a sequence, or its adapter gives logits that are not finite."""


class DeadlineExceeded(ServeError):
    """A request waited too long in the queue."""


class NotReady(ServeError):
    """The server is warming up: its first requests would be slow."""


class DeviceLost(ServeError):
    """The GPU failed, and runs nothing more in this process."""


class ShuttingDown(ServeError):
    """The server is stopping and takes no new requests."""


MAX_NAME = 64
"""Characters of a client's name for a model that an error quotes."""


def shortened(text: str, max_length: int) -> str:
    """Return a text that an error quotes, cut to `max_length` characters."""
    return text if len(text) <= max_length else f"{text[:max_length]}…"


def in_client_words(error: ServeError, names: Mapping[str, str]) -> tuple[str, str | None]:
    """Return an error's message and field, both with the client's names of the engine's fields.

    What is quoted, or a place in a schema (`/properties/prompts`), is the client's own and stays.
    """
    message = str(error)
    for name, client_name in names.items():
        if "_" in name or name == error.field:
            start = "" if "_" in name else "^"  # elsewhere it may be a plain word
            message = re.sub(rf"{start}(?<![\w./\"']){name}\b", client_name, message)
    return message, names.get(error.field or "", error.field)


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    text = str(error).strip() or (error if isinstance(error, str) else type(error).__name__)
    return (text or "no reason given").splitlines()[0]


def device_loss(error: BaseException | str) -> str | None:
    """Return the failure of the GPU that ONNX Runtime's error tells of; None if the GPU still works."""
    for found in FAILURE.finditer(str(error)):
        if found["code"] is None or int(found["code"]) in LOST_CODES:
            return found[0].strip()
    return None


def as_serve_error(error: BaseException, kind: type[ServeError], message: str) -> ServeError:
    """Return a ServeError as it is, and any other error as a `kind` of which it is the cause.

    The message of the new error is `message` and the first line of the cause. If the cause is a lost GPU, the error is
    a `DeviceLost`.
    """
    if isinstance(error, ServeError):
        return error
    loss = device_loss(error)
    raised = kind(f"{message}: {first_line(error)}") if loss is None else DeviceLost(f"the GPU failed ({loss}): {LOST}")
    raised.__cause__ = error
    return raised
