"""Adapters on the device: the bank of slots, and the registry of names."""
