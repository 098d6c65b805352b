"""The tokenizer of a bundle, `tokenizer.json`."""

from pathlib import Path

from tokenizers import Tokenizer

from serve.errors import BundleError, first_line, shortened

MAX_QUOTED = 200


def read_tokenizer(file: Path) -> Tokenizer:
    """Return the tokenizer in a file.

    Raises:
        BundleError: The file is not one that `tokenizers` reads.
    """
    try:
        return Tokenizer.from_file(str(file))
    except BaseException as error:
        # The library raises plain exceptions, and panics of its own that are no `Exception`.
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise BundleError(
            f"{file} is no tokenizer: {shortened(first_line(error), MAX_QUOTED)}; export it again"
        ) from error
