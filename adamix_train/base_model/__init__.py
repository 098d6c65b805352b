"""The frozen base model: locate, fingerprint, load."""
