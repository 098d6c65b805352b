"""Rewrites of fp32 graphs in other precisions."""
