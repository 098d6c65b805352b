"""A bundle in the formats of other tools, one file each."""
