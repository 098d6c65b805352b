"""One file a claim: each measures it, prints its worst ratio last, and writes the figures as JSON."""
