"""A bundle in the formats of other tools, a file each."""
