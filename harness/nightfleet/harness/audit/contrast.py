"""Two reports side by side: was the same asked, on the same ground, and was the answer the same?"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import unified_diff
from typing import Any

# What differs by chance in every run: shown, and no difference in itself.
FIGURES = "figures"


@dataclass(frozen=True)
class Change:
    """One thing that is not the same in both; plain values."""

    group: str
    name: str
    left: Any
    right: Any


@dataclass(frozen=True)
class Contrast:
    """All of them, and the diff of the programs' texts."""

    left: str
    right: str
    changes: tuple[Change, ...]
    program: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the same question got the same verdict; figures may differ."""
        return all(change.group == FIGURES for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        changes = [asdict(change) for change in self.changes]
        return {"left": self.left, "right": self.right, "same": self.same, "changes": changes, "program": self.program}


def contrast(left: Mapping[str, Any], right: Mapping[str, Any]) -> Contrast:
    """What is not the same in two reports' contents, in the order in which one would ask."""
    before, after = dict(_facts(left)), dict(_facts(right))
    found = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
    changes = tuple(Change(*key, *values) for key, values in found.items() if values[0] != values[1])
    first, second = (one["verification"]["id"] for one in (left, right))
    old, new = (one["subject"]["program_text"].split("\n") for one in (left, right))
    return Contrast(first, second, changes, tuple(unified_diff(old, new, first, second, lineterm="")))


def _facts(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """What two reports are compared by, under the group and name of each."""
    subject, found = content["subject"], content["verification"]
    for side in ("baseline", "candidate"):
        yield from ((("trees", f"{side}.{name}"), subject[side][name]) for name in ("name", "tree", "artefact"))
    yield ("arena", "name"), subject["arena"]["name"]
    yield ("arena", "program"), subject["program"]
    yield from ((("arena", name), value) for name, value in subject["contract"].items())
    yield from ((("arena", name), subject[name]) for name in ("purpose", "alpha"))
    yield from ((("machine", name), value) for name, value in subject["machine"].items())
    yield from ((("toolchain", name), subject[name]) for name in ("toolchain", "version"))
    yield ("verdict", "verdict"), found["verdict"]
    yield from ((("verdict", f"gate {gate['name']}"), gate["passed"]) for gate in found["gates"])
    yield (FIGURES, "reason"), found["reason"]
    yield from (((FIGURES, f"gain.{name}"), value) for name, value in (found["gain"] or {}).items())
    yield (FIGURES, "pairs"), found["pairs"]
    yield from (((FIGURES, f"behaviour.{name}"), value) for name, value in found["behaviour"].items())
