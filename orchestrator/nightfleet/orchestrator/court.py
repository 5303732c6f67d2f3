"""The judge as the night meets it: a hearing for each candidate, and what came of it in the ledger's words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nightfleet.agents.contract import ArenaSummary, Profile
from nightfleet.agents.profile import profile_baseline
from nightfleet.harness.calibrate import PAIRS_FOR_A_NIGHT, PAIRS_FOR_VERIFY
from nightfleet.harness.hearing import Hearing, journal_of
from nightfleet.harness.layout import Layout
from nightfleet.harness.morning import measure
from nightfleet.harness.overture import Overture, rehearse
from nightfleet.harness.pools import CasePools
from nightfleet.harness.report import Verification
from nightfleet.harness.request import Request, Watch
from nightfleet.harness.workspace import Workspace
from nightfleet.orchestrator.ledger.tables import Candidate, Night
from nightfleet.orchestrator.ledger.verifications import Finding
from nightfleet.orchestrator.place import Place
from nightfleet.orchestrator.program import Program

# Verifications that are no candidate's have salts from here on: rehearsals, mornings.
OTHERS = 1 << 48
# Fixed: what builds that nobody uses may take up while a night goes on.
KEPT_BYTES = 4 << 30
# What a short night says of layouts.
NO_TIME = "a short night has no time for relinks"
# A second timing of a candidate, after the journal of the first was lost, has other cases.
ATTEMPT = 1 << 32


@dataclass(frozen=True)
class Matter:
    """What a hearing is about.

    Attributes:
        attempt: counts the timings of a candidate that cannot be gone on with, from 0.
    """

    candidate: Candidate
    night: Night
    program: Program
    attempt: int = 0

    @property
    def timing(self) -> str:
        """The name of its timing, and of the journal."""
        again = f"-{self.attempt + 1}" if self.attempt else ""
        return f"{self.night.name}-{self.candidate.number}{again}"


@dataclass(frozen=True)
class Without:
    """The champion without what one candidate brought.

    Attributes:
        commit: of that.
        candidate: what is left out.
    """

    commit: str
    candidate: Candidate


class Sitting(Protocol):
    """A hearing under way; see `nightfleet.harness.hearing.Hearing`."""

    @property
    def binary(self) -> str:
        """Digest of what would be timed."""

    @property
    def figures(self) -> tuple[float | None, int | None]:
        """What the candidate needed in timed trials, in the metric's unit, and its peak in bytes."""

    def prepare(self) -> bool:
        """Every gate up to the timing; whether it is to be timed."""

    def time(self, alpha: float, *, alone: bool) -> None:
        """The timing, under an error rate; `alone` says that the machine is quiet already."""

    def report(self) -> tuple[Verification, Path, str]:
        """What was found, its report and the report's root digest."""


class Court(Protocol):
    """Who judges."""

    def rehearse(self, night: Night, program: Program, watch: Watch) -> "Overture":
        """Whether the champion of now can be judged against at all."""

    def profile(self, commit: str, program: Program) -> Profile | None:
        """Where a baseline spends its work, for those who look for strategies."""

    def hear(self, matter: Matter, watch: Watch) -> Sitting:
        """Begin a hearing."""

    def begun(self, matter: Matter) -> bool:
        """Whether a timing of that name has left a journal to go on from."""

    def abandon(self, matter: Matter) -> None:
        """A timing cannot be gone on with: its journal is put aside."""

    def tidy(self, program: Program) -> None:
        """Let go of builds that nobody needs any more, beyond what may be kept."""

    def morning(self, night: Night, program: Program, watch: Watch) -> tuple[Verification, Path, str]:
        """The root against the champion, measured afresh."""

    def without(self, night: Night, program: Program, without: Without, watch: Watch) -> tuple[Verification, Path, str]:
        """The champion without one promotion against the champion, measured afresh."""


class HarnessCourt:
    """The harness.

    Args:
        place: where its builds, reports and journals are.
        master: the secret that all cases follow from.
        brief: calibrate as for one verification and not as for a night, and relink nothing.
    """

    def __init__(self, place: Place, master: bytes, *, brief: bool = False) -> None:
        self._place, self._master = place, master
        self._brief = brief

    def rehearse(self, night: Night, program: Program, watch: Watch) -> Overture:
        """See `Court`."""
        request = self._request(program, night.champion, night.champion, OTHERS + night.number, f"{night.name}-root")
        quiet = self._place.quiet.silence
        if not self._brief:
            return rehearse(request, watch, pairs=PAIRS_FOR_A_NIGHT, quiet=quiet)
        return rehearse(request, watch, pairs=PAIRS_FOR_VERIFY, layout=Layout(why=NO_TIME), quiet=quiet)

    def profile(self, commit: str, program: Program) -> Profile:
        """See `Court`."""
        place = self._place
        workspace = Workspace(place.state, program.arena, place.here)
        built = workspace.build(place.door.tree(commit))
        summary = ArenaSummary.of(program.arena).workloads[0]
        pools = CasePools(program.arena, place.door.tree(commit), self._master, OTHERS)
        span = pools.practice()[0]
        return profile_baseline(built.path, workspace.sandbox_options("trial", built), summary, span.cases.tolist())

    def hear(self, matter: Matter, watch: Watch) -> Sitting:
        """See `Court`."""
        candidate = matter.candidate
        index = candidate.id + ATTEMPT * matter.attempt
        request = self._request(matter.program, candidate.parent, candidate.commit, index, matter.timing)
        return _Heard(Hearing(request, watch), self._place)

    def begun(self, matter: Matter) -> bool:
        """See `Court`."""
        return journal_of(self._place.state, matter.timing).exists()

    def abandon(self, matter: Matter) -> None:
        """See `Court`."""
        journal = journal_of(self._place.state, matter.timing)
        journal.rename(journal.with_suffix(".abandoned"))

    def tidy(self, program: Program) -> None:
        """See `Court`."""
        Workspace(self._place.state, program.arena, self._place.here).gc(KEPT_BYTES)

    def morning(self, night: Night, program: Program, watch: Watch) -> tuple[Verification, Path, str]:
        """See `Court`."""
        index = OTHERS + ATTEMPT * night.number
        name = f"{night.name}-morning-{night.champion[:12]}"
        return measure(self._request(program, night.root, night.champion, index, name), watch)

    def without(self, night: Night, program: Program, without: Without, watch: Watch) -> tuple[Verification, Path, str]:
        """See `Court`."""
        index = OTHERS + ATTEMPT * night.number + without.candidate.id
        name = f"{night.name}-without-{without.candidate.number}-{night.champion[:12]}"
        request = self._request(program, without.commit, night.champion, index, name)
        # As many cases as for any candidate: all of the night's were compared with the root's a moment ago.
        return measure(request, watch, times=1)

    def _request(self, program: Program, baseline: str, candidate: str, index: int, name: str) -> Request:
        door = self._place.door
        return Request(
            program.arena,
            door.tree(baseline),
            door.tree(candidate),
            source=self._place.here,
            state=self._place.state,
            program_text=program.front.text,
            master=self._master,
            index=index,
            id=name,
            timing=name,
        )


class _Heard:
    """A `Hearing` whose confirmation waits for silence."""

    def __init__(self, hearing: Hearing, place: Place) -> None:
        self._hearing, self._place = hearing, place

    @property
    def binary(self) -> str:
        return self._hearing.binary

    @property
    def figures(self) -> tuple[float | None, int | None]:
        return self._hearing.figures

    def prepare(self) -> bool:
        return self._hearing.prepare()

    def time(self, alpha: float, *, alone: bool) -> None:
        if alone:
            self._hearing.time(alpha, patient=False)
        else:
            self._hearing.time(alpha, quiet=self._place.quiet.silence, patient=False)

    def report(self) -> tuple[Verification, Path, str]:
        return self._hearing.report()


def finding(
    found: Verification, root: str, *, baseline: str, reservation: int | None, figures: tuple[float | None, int | None]
) -> Finding:
    """A verification in the ledger's words."""
    metric, memory_bytes = figures
    gain = found.gain
    return Finding(
        baseline=baseline,
        verdict=found.verdict,
        reason=found.reason,
        report=found.id,
        root_digest=root,
        gain=None if gain is None else gain.estimate,
        low=None if gain is None else gain.low,
        high=None if gain is None else gain.high,
        clock=None if gain is None else gain.clock,
        pairs=found.pairs,
        cases=found.cases,
        diverged=found.diverged,
        extraordinary=found.extraordinary,
        metric=metric,
        memory_bytes=memory_bytes,
        seconds={gate.name: gate.seconds for gate in found.gates if gate.passed is not None},
        reservation=reservation,
    )
