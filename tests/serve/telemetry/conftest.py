"""The decoder that generation is tested with."""

from tests.serve.generation.conftest import decoder

__all__ = ["decoder"]
