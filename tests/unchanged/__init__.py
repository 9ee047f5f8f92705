"""Recorded behaviour: scores, losses and videos that a change of the code's structure must not move."""
