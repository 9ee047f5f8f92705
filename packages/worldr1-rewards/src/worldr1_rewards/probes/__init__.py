"""Probes of rewards: does a higher score mean a more consistent world, and does nothing else buy it?"""
