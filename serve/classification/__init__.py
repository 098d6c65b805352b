"""The classification engine."""
