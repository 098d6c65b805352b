"""The errors of serving; the HTTP layer alone knows their status codes.

ServeError
├── BundleError        a bundle or adapter is damaged, incomplete, or does not fit
├── ProviderError      ONNX Runtime cannot run where it was told to
├── UnknownAdapter     a request names an adapter that is not loaded
├── InputError         a text is empty, too long, or not a text
├── Overloaded         the queue is full
├── Failed             a text cannot be run: the runtime refuses it, or its adapter gives no numbers
├── DeadlineExceeded   a request waited too long
└── Draining           the server is stopping
"""


class ServeError(Exception):
    """What was found, what was expected, and what to do, in one line."""


class BundleError(ServeError):
    """A bundle or adapter is damaged, incomplete, or does not fit."""


class ProviderError(ServeError):
    """ONNX Runtime cannot run where it was told to."""


class UnknownAdapter(ServeError):
    """A request names an adapter that is not loaded."""


class InputError(ServeError):
    """A text is empty, too long, or not a text."""


class Overloaded(ServeError):
    """The queue is full."""


class Failed(ServeError):
    """A text cannot be run: the runtime refuses it, or its adapter gives no numbers."""


class DeadlineExceeded(ServeError):
    """A request waited too long."""


class Draining(ServeError):
    """The server is stopping."""


def failure(error: BaseException, what: str) -> ServeError:
    """Return an error of serving as it is, and any other as `Failed`: what has failed, and the first line of why."""
    if isinstance(error, ServeError):
        return error
    words = str(error).strip() or type(error).__name__
    failed = Failed(f"{what}: {words.splitlines()[0]}")
    failed.__cause__ = error
    return failed


def shortened(text: str, most: int) -> str:
    """Return a text that an error quotes, or its beginning if it has more than `most` characters."""
    return text if len(text) <= most else f"{text[:most]}…"
