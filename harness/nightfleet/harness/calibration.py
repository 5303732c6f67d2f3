"""What is known about a machine's noise before pair 1, and frozen from then on."""

import bisect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nightfleet.harness.rules import Quantity

# No noise scale is believed below this: clocks and layouts are not that good (design: 0.05%).
SCALE_FLOOR = 0.0005


@dataclass(frozen=True)
class Noise:
    """The noise scale s(u) of one quantity: a step function that never falls as u grows.

    `reference` is ln t of an undisturbed baseline trial (F; t in ns or bytes), 0 if every pair brings its own
    (`per_block`). `edges` are the inner bounds of the bins of u, ascending; `scales` is one longer, in log units.
    """

    reference: float
    edges: tuple[float, ...]
    scales: tuple[float, ...]
    per_block: bool = False

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges make {len(self.edges) + 1} bins; got {len(self.scales)} scales")
        if list(self.edges) != sorted(self.edges) or list(self.scales) != sorted(self.scales):
            raise ValueError("edges and scales of a noise scale never fall")
        if self.scales[0] < SCALE_FLOOR:
            raise ValueError(f"a noise scale is at least {SCALE_FLOOR}; got {self.scales[0]}")

    def scale(self, level: float) -> float:
        """s(u) at u = level - reference."""
        return self.scales[bisect.bisect_right(self.edges, level - self.reference)]

    @property
    def lowest(self) -> float:
        """The lowest of the scales, s_min."""
        return self.scales[0]


@dataclass(frozen=True)
class Calibration:
    """The noise of every series and quantity, and the sd of gains between relinks of identical code (a fraction)."""

    noise: Mapping[str, Mapping[Quantity, Noise]]
    layout_sd: float = 0.0
    pairs: int = field(default=0)

    def __post_init__(self) -> None:
        if not 0 <= self.layout_sd < 1:
            raise ValueError(f"layout_sd must lie between 0 and 1; got {self.layout_sd}")

    @property
    def per_block(self) -> bool:
        """Whether pairs are judged relative to a reference trial of their block."""
        return any(noise.per_block for by_quantity in self.noise.values() for noise in by_quantity.values())

    def of(self, series: str, quantity: Quantity) -> Noise:
        """The noise to judge by. ValueError when it was not calibrated."""
        found = self.noise.get(series, {}).get(quantity)
        if found is None:
            raise ValueError(f"{quantity} of workload {series!r} was not calibrated; run `nightfleet check` first")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` gives back an equal calibration."""
        noise = {
            series: {quantity: _plain(noise) for quantity, noise in by_quantity.items()}
            for series, by_quantity in self.noise.items()
        }
        return {"noise": noise, "layout_sd": self.layout_sd, "pairs": self.pairs}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Calibration":
        """A calibration from its plain values. TypeError or ValueError when they are not one."""
        noise = {
            series: {quantity: _noise(values) for quantity, values in by_quantity.items()}
            for series, by_quantity in plain["noise"].items()
        }
        return cls(noise, plain["layout_sd"], plain["pairs"])


def _plain(noise: Noise) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(noise).items()}


def _noise(values: Mapping[str, Any]) -> Noise:
    return Noise(**{**values, "edges": tuple(values["edges"]), "scales": tuple(values["scales"])})
