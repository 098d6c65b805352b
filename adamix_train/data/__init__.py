"""Examples, splits, and encoded inputs."""
