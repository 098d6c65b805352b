"""Prompt lookup: tokens guessed from a row's own prompt and text, and verified in one step."""
