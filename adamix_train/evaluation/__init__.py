"""Generate texts and score them."""
