"""One limit of the budget as a bullet bar."""

from __future__ import annotations

from markupsafe import Markup

from cofit.report.svg import element


def bullet(dense: float, fitted: float, limit: float) -> Markup:
    """One limit: dense as the wide bar, fitted as the slim one, the limit as a line.

    Stretches to any width; it holds no text. Negative values (an accuracy that rose) show as zero.
    """
    reach = 1.06 * max(dense, fitted, limit) or 1.0

    def bar(value: float, top: int, height: int, class_: str) -> Markup:
        width = 100 * max(value, 0.0) / reach
        return element("rect", x=0, y=top, width=width, height=height, class_=class_)

    at = 100 * max(limit, 0.0) / reach
    return element(
        "svg",
        bar(reach, 5, 18, "track"),
        bar(dense, 5, 18, "dense"),
        bar(fitted, 10, 8, "fitted" if fitted <= limit + 1e-12 else "over"),
        element("line", x1=at, x2=at, y1=0, y2=28, class_="limit"),
        viewBox="0 0 100 28",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{at:.0f} percent of the scale is the limit",
    )
