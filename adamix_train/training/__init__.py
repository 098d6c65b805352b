"""The training loop: objectives, methods, the Trainer."""
