"""Routes for classifiers as vLLM has them."""
