"""Processes that speak HTTP before one engine process: a prototype's costs, and a simulation beside --workers."""
