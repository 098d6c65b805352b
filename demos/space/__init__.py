"""A Space of the Hugging Face Hub: the page over bundles of its own."""
