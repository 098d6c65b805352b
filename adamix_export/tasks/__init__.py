"""Tasks that can be exported: how each is traced, which canary results it stores, and how it is compared."""
