"""The table that every benchmark prints: figures, what was promised, whether it was kept."""

from dataclasses import dataclass

INFINITY = float("inf")


@dataclass(frozen=True)
class Figure:
    """One measured figure and the bounds it has to keep; no bounds, no promise."""

    name: str
    value: float
    unit: str
    least: float = -INFINITY
    most: float = INFINITY

    @property
    def kept(self) -> bool:
        """Whether the figure lies within its bounds."""
        return self.least <= self.value <= self.most

    @property
    def promise(self) -> str:
        """The bounds in words."""
        bounds = []
        if self.least > -INFINITY:
            bounds.append(f"≥ {self.least:g}")
        if self.most < INFINITY:
            bounds.append(f"≤ {self.most:g}")
        return ", ".join(bounds)


def report(title: str, remark: str, figures: list[Figure]) -> int:
    """Print a piece of Markdown; return 1 when a promise was not kept, else 0."""
    print(f"## {title}\n\n{remark}\n\n| what | figure | promise |\n|---|---:|---|")
    for figure in figures:
        broken = "" if figure.kept else " **not kept**"
        print(f"| {figure.name} | {figure.value:.3g} {figure.unit} | {figure.promise}{broken} |")
    return 0 if all(figure.kept for figure in figures) else 1
