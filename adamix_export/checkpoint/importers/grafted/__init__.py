"""Adapters of other tools that are put onto the base module by module."""
