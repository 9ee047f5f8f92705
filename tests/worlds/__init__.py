"""Tests of the rendered world of `worldr1_rewards.probes.world`, and what only tests need around it."""
