"""Is AdaMix worth using? Train it and its baselines alike and compare what comes out."""
