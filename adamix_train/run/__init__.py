"""Carry out a recipe: prepare, fit, measure; interrupt, resume, sweep."""
