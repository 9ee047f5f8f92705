"""Scoring and serving on a Ray cluster: `--engine ray` of `worldr1 score`, `worldr1 eval` and `worldr1 serve`.

Nothing here is imported before that option is used; the extra `ray` installs what it needs.
"""
