"""The choice of the next token: logits, beam search, structured output."""
