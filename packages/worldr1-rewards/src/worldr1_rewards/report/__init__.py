"""The static HTML report of `worldr1 score --report`: one file, no network access, all inserted text escaped."""

from worldr1_rewards.report.writer import ReportWriter

__all__ = ["ReportWriter"]
