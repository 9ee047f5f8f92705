"""Probes of rewards: tests that a higher score means a more consistent world, and that hacks earn little."""
