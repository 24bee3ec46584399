"""Floor 9: a fit shown to people, as one HTML file and in the terminal."""

from cofit.report.html import render_html, write_html
from cofit.report.progress import ProgressDisplay
from cofit.report.terminal import print_summary

__all__ = ["ProgressDisplay", "print_summary", "render_html", "write_html"]
