"""Floor 9: a fit or an explanation shown to people, as one HTML file and in the terminal."""

from cofit.report.cost_plot import check_plot, plot_costs
from cofit.report.explained import print_explanation
from cofit.report.explained_html import render_explanation, write_explanation
from cofit.report.findings import print_finding, read_results, write_results
from cofit.report.html import render_html, write_html
from cofit.report.progress import ProgressDisplay
from cofit.report.terminal import print_summary

__all__ = [
    "ProgressDisplay",
    "check_plot",
    "plot_costs",
    "print_explanation",
    "print_finding",
    "print_summary",
    "read_results",
    "render_explanation",
    "render_html",
    "write_explanation",
    "write_html",
    "write_results",
]
