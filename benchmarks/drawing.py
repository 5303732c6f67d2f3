"""Plots for the documents: SVG, readable on white and on black, the same bytes for the same figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK = "#7a7a7a"
OUR_INK = "#d1651a"
# A fixed salt names the parts of a file alike each time.
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nightfleet",
    "font.size": 9,
    "font.family": "sans-serif",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@contextmanager
def drawn(path: Path, rows: int, columns: int, inches: tuple[float, float], **options: Any) -> Iterator[Any]:
    """The figure and its panels, to draw on; written to the path at the end.

    Matplotlib is a tool of developers: whoever only reads figures never imports it.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(SETTINGS):
        figure, panels = plt.subplots(rows, columns, figsize=inches, **options)
        for panel in panels.flat:
            panel.patch.set_alpha(0)
            panel.grid(visible=True, color=INK, alpha=0.2)
        yield figure, panels
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    # It ends lines with blanks.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n", encoding="utf-8")
