"""One HTML page that says what a run found."""

from search.results.report.page import page, write_report

__all__ = ["page", "write_report"]
