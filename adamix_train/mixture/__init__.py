"""Mixtures of projections, the routes through them, and the adapter kinds made of them; nothing here knows PEFT."""
