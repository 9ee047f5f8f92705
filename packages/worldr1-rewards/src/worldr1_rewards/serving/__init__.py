"""Rewards in other processes: wire format, server, client, and the placements of the manifest."""
