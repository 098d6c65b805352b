"""Choosing the next token: parameters, logits, beam search, structured output."""
