"""The frozen base model: where it is, what it is, and how it is loaded."""
