"""`progress.png`: where its dots and steps stand, and that its labels do not cover each other."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import staged
from hypothesis import example, given
from hypothesis import strategies as st
from nightwork import Hands

from nightfleet.native import UserError
from nightfleet.orchestrator.ledger import Ledger
from nightfleet.orchestrator.views.progress_plot import APART, MOST_LABELS, _apart, draw_progress, picture_of
from nightfleet.orchestrator.views.summary import Morning

MEASURED = Morning(0.45, 0.44, 0.46, "cpu", 40, 20000, 20000, "v9", "")
PNG = b"\x89PNG\r\n\x1a\n"


def test_where_everything_stands(ledger: Ledger, hands: Hands) -> None:
    night = staged.a_night(ledger, hands)
    picture = picture_of(ledger, night)
    assert [(level.number, level.title) for level in picture.levels] == [
        (2, "hoist the bounds check out of the inn…"),
        (7, staged.HARMLESS[:37].rstrip() + "…"),
    ]
    # The second step's 40% are of what the first one left.
    assert [level.total for level in picture.levels] == pytest.approx([0.1, 0.46])
    assert [level.low for level in picture.levels] == pytest.approx([0.08, 1 - 0.9 * 0.62])
    assert [level.hour for level in picture.levels] == pytest.approx([2 / 6, 7 / 6])
    assert [(dot.verdict, round(dot.total, 4)) for dot in picture.dots] == [
        ("reject", -0.01),
        ("promote", 0.1),
        ("incremental", 0.127),
        ("promote", 0.46),
        ("undecided", 0.4713),
    ]
    assert picture.untimed["incorrect"] == pytest.approx([0.5])
    assert picture.untimed["broken"] == pytest.approx([1.0])
    assert picture.hours == pytest.approx(8 / 6)


def test_a_promotion_that_lost_its_swap_is_none(ledger: Ledger) -> None:
    night = staged.begin(ledger)
    staged.judged(ledger, "promote", 0.1)
    picture = picture_of(ledger, night)
    assert [dot.verdict for dot in picture.dots] == ["not promoted"]
    assert picture.levels == ()


@pytest.mark.parametrize("morning", [None, MEASURED, Morning(why="no time")])
def test_it_is_drawn(ledger: Ledger, hands: Hands, tmp_path: Path, morning: Morning | None) -> None:
    night = staged.a_night(ledger, hands)
    for place in range(MOST_LABELS + 2):
        hands.pass_s(60)
        staged.promoted(ledger, 0.05, f"{place} 格子 $\\frac{{$")
    staged.judged(ledger, "reject", -20.0)
    file = draw_progress(ledger, night, tmp_path / "runs", morning)
    assert file == tmp_path / "runs/progress.png"
    assert file.read_bytes().startswith(PNG)
    assert [path.name for path in file.parent.iterdir()] == ["progress.png"]


def test_a_night_of_nothing_is_drawn(ledger: Ledger, tmp_path: Path) -> None:
    assert draw_progress(ledger, staged.begin(ledger), tmp_path).read_bytes().startswith(PNG)


def test_without_matplotlib_it_says_what_to_type(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = staged.begin(ledger)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'nightfleet\[plots\]'"):
        draw_progress(ledger, night, tmp_path)


@example([0.97, 0.98, 0.99, 1.0])
@given(st.lists(st.floats(0, 1), max_size=MOST_LABELS + 1).map(sorted))
def test_labels_do_not_cover_each_other(heights: list[float]) -> None:
    places = _apart(heights)
    assert len(places) == len(heights)
    assert all(later - earlier >= APART - 1e-9 for earlier, later in pairwise(places))
    assert all(0 <= place <= 1 for place in places)
