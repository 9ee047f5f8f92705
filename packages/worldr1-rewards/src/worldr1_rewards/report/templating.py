"""The templates of this package's pages, in `worldr1_rewards/templates`."""

from __future__ import annotations

from worldr1_core.pages.templating import Templates

TEMPLATES = Templates("worldr1_rewards")
"""Templates of this package, and those that all pages share."""

render = TEMPLATES.render
