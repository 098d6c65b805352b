"""Metrics of labels, of scores and of generated texts."""
