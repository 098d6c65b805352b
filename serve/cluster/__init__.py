"""Servers on a cluster: replicas of the engine under Ray Serve, which need the extra ray."""
