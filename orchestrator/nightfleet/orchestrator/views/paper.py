"""What every picture is drawn on, and in which colours. matplotlib is the extra `plots`: it is imported when used."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Readable on light and on dark paper.
INK, OTHER = "#777777", "#8a97a8"
COLOURS = {
    "promote": "#2e9e5b",
    "incremental": "#d9a514",
    "undecided": "#a58bc4",
    "suspicious": "#d1495b",
    "simplify": "#3a86c8",
}
DOTS_PER_INCH = 130


@contextmanager
def sheet(file: Path, size: tuple[float, float]) -> Iterator["Figure"]:
    """A figure of so many inches, which is written when it is done, in the format that the file's ending names.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        yield figure
        with warnings.catch_warnings():
            # A title may be in letters that the font does not have; they become boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(file, dpi=DOTS_PER_INCH)


def plain(axes: "Axes") -> None:
    """No box and no ground."""
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
