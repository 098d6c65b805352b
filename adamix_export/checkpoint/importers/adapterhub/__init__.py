"""Importer of adapters that AdapterHub's `adapters` library saved, which is not imported itself."""
