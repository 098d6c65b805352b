"""How tasks are judged: from logits and labels, from scores, and from texts."""
