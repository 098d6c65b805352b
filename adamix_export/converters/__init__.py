"""Conversion of bundles to other tools' formats, one file each."""
