"""Build of the documentation site: pages of the repository, and references made from docstrings, --help and OpenAPI."""
