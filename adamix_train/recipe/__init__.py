"""A training run as data: its fields, and how they are read from files and flags."""
