"""Self-contained HTML pages: one file with style, script and pictures, which loads nothing.

Every report of the packages is such a page. What a page shows of a prompt, a name or a reason is escaped
(`worldr1_core.pages.templating`), and its Content-Security-Policy lets nothing run but its own script
(`worldr1_core.pages.page`).
"""
