"""The generator of the tests of generation, over a decoder that is computed by hand."""

from tests.serve.generation.conftest import decoder, generator

__all__ = ["decoder", "generator"]
