"""A training run as data."""
