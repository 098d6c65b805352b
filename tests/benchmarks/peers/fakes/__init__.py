"""What the peers' programs use of their packages, over models that a test can follow by hand."""
