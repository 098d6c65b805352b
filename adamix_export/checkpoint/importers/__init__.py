"""Importers: what reads a folder of AdaMix, of PEFT or of transformers as a checkpoint."""
