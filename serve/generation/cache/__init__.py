"""The KV cache and the cache of prompt prefixes."""
