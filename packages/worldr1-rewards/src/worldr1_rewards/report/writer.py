"""Collects scored clips one by one and writes them as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from worldr1_core.files import atomic_write_text
from worldr1_core.pages.page import html_page
from worldr1_core.provenance import versions as installed_versions
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.clip_section import clip_section, without_pictures
from worldr1_rewards.report.summary import SummaryRow, summary, summary_row
from worldr1_rewards.report.views import ClipViews, clip_views

PICTURE_BUDGET = 48 * 2**20
"""Bytes of pictures that a page holds, 100 clips or more; later clips keep their numbers and words."""


class ReportWriter:
    """Writes the report of a scoring run.

    Every clip is reduced to text and small pictures as it is added, so that memory stays bounded however long the run.
    Equal results give equal bytes.

    Example:
        ```python
        report = ReportWriter(manifest=Path("manifest.yaml").read_text())
        for result in scorer.score(clips):
            report.add(result)
        report.write("report.html")
        ```

    Args:
        title: Heading of the page.
        manifest: Text of the manifest that was used, shown as it is; left out if `None`.
        versions: Name -> version that the scores depend on; what is installed when left out.
    """

    def __init__(
        self,
        *,
        title: str = "World-R1 score report",
        manifest: str | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.title = title
        self.manifest = manifest
        self.versions = installed_versions() if versions is None else versions
        self._rows: list[SummaryRow] = []
        self._sections: list[Markup] = []
        self._picture_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, result: ClipScores, views: ClipViews | None = None) -> None:
        """Take a clip into the page.

        Args:
            result: From `worldr1_rewards.scoring.Scorer.score`.
            views: Its pictures, where the caller has them already (see `worldr1_rewards.report.views.clip_views`).

        Raises:
            UserError: The reconstruction cannot render for any clip (absent weights or extra).
        """
        index = len(self._rows) + 1
        if self._picture_bytes < PICTURE_BUDGET:
            section = clip_section(f"clip-{index}", result, views or clip_views(result))
            self._picture_bytes += len(section)
        else:
            section = without_pictures(f"clip-{index}", result)
        self._sections.append(section)
        self._rows.append(summary_row(index, result))

    def write(self, path: str | Path) -> None:
        """Write the page atomically; more clips may be added and the page written again.

        Args:
            path: HTML file; its folders are made, an existing file is replaced.

        Raises:
            OutputError: The place cannot be written to.
        """
        atomic_write_text(path, self._page())

    def _page(self) -> str:
        return html_page(
            self.title,
            summary=summary(self._rows),
            body=Markup().join(self._sections),
            versions=self.versions,
            manifest=self.manifest,
        )
