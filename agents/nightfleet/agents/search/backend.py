"""The search backend: a scout that proposes exact changes, and a worker that carries one out."""

import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import ValidationError

from nightfleet.agents.contract import (
    Brief,
    Changed,
    Desk,
    Evidence,
    Failed,
    Nothing,
    Outcome,
    Proposed,
    Report,
    Spend,
    Strategy,
    fit,
)
from nightfleet.agents.search.change import Change
from nightfleet.agents.search.constants import sweeps
from nightfleet.agents.search.crates import crate_changes
from nightfleet.agents.search.ranking import ranked
from nightfleet.agents.search.recipe import StaleError, apply, read_recipe, recipe_of
from nightfleet.agents.search.rules import Rule, changes_by, packaged_rules
from nightfleet.agents.search.settings import settings
from nightfleet.agents.search.sources import Sources, read_sources
from nightfleet.agents.search.staircase import Move
from nightfleet.agents.trees import write_files
from nightfleet.native import UserError

# Fixed: how often the desk hears from a scout that reads a large tree.
BEAT_S = 5.0
# Verdicts after which a change is part of the baseline, or was faster and not by enough.
WON = frozenset({"promote", "simplify"})
PROMISING = frozenset({"incremental"})


class SearchBackend:
    """Strategies without a model.

    Args:
        rules: instead of those that come with nightfleet.
        waiting: also try what may be fitted to the programs that its author had before them; see `packaged_rules`.
    """

    name = "search"
    # Two scouts with the same seed say the same; a worker is done in milliseconds.
    most_scouts = 1
    most_workers = 64
    busy = True

    def __init__(self, rules: Sequence[Rule] | None = None, *, waiting: bool = False) -> None:
        self._waiting = waiting
        more = packaged_rules(waiting=True) if waiting else ()
        self._rules = (*(packaged_rules() if rules is None else rules), *more)

    def scout(self, brief: Brief, desk: Desk) -> Report:
        """Propose the changes that nobody tried, the most promising first."""
        return _timed(lambda: self._scout(brief, desk))

    def worker(self, brief: Brief, desk: Desk) -> Report:
        """Carry out the brief's strategy in its tree."""
        return _timed(lambda: _work(brief, desk))

    def changes(self, brief: Brief, sources: Sources) -> Iterator[Change]:
        """Every change that the rules, sweeps and settings make of some sources, tried or not, in no useful order."""
        moves = _moves(brief)
        scope = brief.arena.scope
        yield from settings(sources, brief.arena.build, moves)
        yield from sweeps(sources, moves)
        yield from crate_changes(sources, lambda path: scope.frozen_because(path) is None, waiting=self._waiting)
        yield from changes_by(self._rules, sources)

    def _scout(self, brief: Brief, desk: Desk) -> Outcome:
        sources = read_sources(brief.tree, brief.arena.scope)
        # What lost its place under a promotion may have one in the tree of now.
        tried = {one.fingerprint for one in brief.tried if one.verdict != "stale"}
        fresh: dict[str, Change] = {}
        beat = time.monotonic()
        for change in self.changes(brief, sources):
            if change.fingerprint not in tried:
                fresh.setdefault(change.fingerprint, change)
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                desk.heartbeat(f"{len(fresh)} changes found")
                if desk.cancelled():
                    return Failed(cause="cancelled")
        best = ranked(fresh.values(), brief.profile, brief.seed, brief.profile_before)
        most = brief.limits.strategies
        strategies = fit(list(itertools.islice(_proposals(best, sources), most)), most)
        if not strategies:
            seen = f"{len(sources.texts)} files, {len(tried)} strategies tried"
            return Nothing(reason=f"no rule, constant or setting is left to try ({seen})")
        return Proposed(strategies=strategies)


def _proposals(changes: Iterable[Change], sources: Sources) -> Iterator[Strategy]:
    """The changes as strategies, without those that are more than a report takes."""
    for change in changes:
        with contextlib.suppress(ValidationError):
            yield strategy_of(change, sources)


def strategy_of(change: Change, sources: Sources) -> Strategy:
    """A change as a scout proposes it."""
    place = change.place
    recipe = recipe_of(f"{change.title}.", sources.texts, change.files)
    return Strategy(
        title=change.title,
        hypothesis=change.hypothesis,
        files=tuple(sorted(change.files)),
        functions=(place.function[:200],) if place.function else (),
        evidence=(Evidence(path=place.path, line=place.line, shows=f"{change.rule} fits here"),),
        expected_gain=change.gain,
        risk=change.risk,
        how_it_could_fail=change.may_break,
        fingerprint=change.fingerprint,
        who=f"search/{change.rule}",
        knob=change.knob,
        recipe=recipe.model_dump_json(),
    )


def _work(brief: Brief, desk: Desk) -> Outcome:
    if brief.strategy is None:
        return Failed(cause="the brief names no strategy")
    if desk.cancelled():
        return Failed(cause="cancelled")
    try:
        recipe = read_recipe(brief.strategy.recipe)
        changed = apply(recipe, read_sources(brief.tree, brief.arena.scope).texts)
        scope = brief.arena.scope
        frozen = next((why for path in changed if (why := scope.frozen_because(path)) is not None), None)
        if frozen is not None:
            return Failed(cause=f"the strategy changes a frozen file: {frozen}")
    except StaleError as error:
        return Failed(cause=str(error))
    write_files(brief.tree, {path: text.encode() for path, text in changed.items()})
    return Changed(summary=recipe.says[:500])


def _moves(brief: Brief) -> dict[str, list[Move]]:
    moves: dict[str, list[Move]] = defaultdict(list)
    for one in brief.tried:
        if one.knob is not None:
            promising = one.verdict in PROMISING and (one.gain or 0.0) > 0.0
            moves[one.knob.name].append(Move(one.knob.before, one.knob.after, one.verdict in WON, promising))
    return moves


def _timed(work: Callable[[], Outcome]) -> Report:
    began = time.monotonic()
    try:
        outcome = work()
    except (UserError, OSError) as error:
        outcome = Failed(cause=str(error)[:8_000])
    return Report(outcome=outcome, spend=Spend(seconds=time.monotonic() - began))
