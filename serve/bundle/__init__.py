"""The bundle format: the manifest, reading, writing, and the adapters in it."""
