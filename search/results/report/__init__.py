"""One HTML page that says what a run found: `write_report`."""

from search.results.report.page import write_report

__all__ = ["write_report"]
