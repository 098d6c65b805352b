"""Notebooks, and the runner that tests and draws them up without a Jupyter kernel."""
