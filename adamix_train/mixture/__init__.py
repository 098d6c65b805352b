"""Mixtures of projections, routes through them, and the adapter kinds made of them; independent of PEFT."""
