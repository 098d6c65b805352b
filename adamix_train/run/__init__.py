"""Carry out a recipe."""
