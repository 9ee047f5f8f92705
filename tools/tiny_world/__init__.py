"""Scripts that make the tiny world's model, judge and prompts, and measure them; no wheel contains them.

Run them from the root of the repository, for example `uv run python -m tools.tiny_world.evaluate`.
"""
