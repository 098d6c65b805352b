"""Hugging Face's inference API, and text-generation-inference, whose messages it has for generated texts."""
