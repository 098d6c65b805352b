"""The sample base models, the quick start and the playground."""
