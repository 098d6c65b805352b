"""The training loop: objectives, methods, losses and the Trainer."""
