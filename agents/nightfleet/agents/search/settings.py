"""Build profiles and compiler flags that lie in the tree, each a ladder that is climbed rung by rung."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import tomlkit
from tomlkit.exceptions import TOMLKitError

from nightfleet.agents.contract import Knob
from nightfleet.agents.search.change import Change, Place
from nightfleet.agents.search.sources import Sources, language_of
from nightfleet.agents.search.staircase import Move, next_rungs

Moves = Mapping[str, Sequence[Move]]


@dataclass(frozen=True)
class Ladder:
    """The values of a setting, in the order in which they cost more work when building."""

    key: str
    rungs: tuple[str, ...]
    default: str
    hypothesis: str
    may_break: str
    risk: str
    gain: float


CARGO = (
    Ladder(
        "lto",
        ("false", "thin", "fat"),
        "false",
        "Calls between crates, the standard library's among them, can be inlined when linking.",
        "Nothing.",
        "Builds take longer.",
        0.03,
    ),
    Ladder(
        "codegen-units",
        ("256", "16", "4", "1"),
        "16",
        "What is compiled in one unit is optimised as one.",
        "Nothing.",
        "Builds take longer.",
        0.03,
    ),
    Ladder(
        "panic",
        ("unwind", "abort"),
        "unwind",
        "Without unwinding there are no landing pads, and more can be inlined.",
        "A panic ends the process at once: nothing is caught, nothing is dropped, threads cannot be joined after it.",
        "Behaviour when things go wrong changes; tests of panics may need the old setting.",
        0.02,
    ),
    Ladder(
        "opt-level",
        ("0", "1", "2", "3"),
        "3",
        "More is inlined and unrolled; now and then the smaller code of a lower level is faster.",
        "Nothing.",
        "",
        0.01,
    ),
)
# What else makes a profile slow, where somebody switched it on: key, value that is slow, value to try.
CARGO_SWITCHES = (
    ("overflow-checks", True, False, "Arithmetic that overflows wraps around instead of panicking."),
    ("debug-assertions", True, False, "Assertions for debugging no longer run."),
    ("incremental", True, False, "Nothing; builds take longer."),
)
FLAG = re.compile(r"(?<![\w-])-O([0-3sz]|fast)?(?![\w-])")
# Flags added beside -O: flag, hypothesis, what it may break, what it costs.
ADDED_FLAGS = (
    (
        "-march=native",
        "The compiler may use every instruction that this machine's processor has.",
        "Floating-point results, where products and sums are fused.",
        "The program is bound to processors like this machine's: elsewhere it may not even start.",
    ),
    ("-flto", "Calls between files can be inlined when linking.", "Nothing.", "Builds take longer."),
    ("-funroll-loops", "Short loops spend much of their time counting.", "Nothing.", "The program grows."),
)
PRAGMAS = ("O3", "O3,unroll-loops")


def settings(sources: Sources, build: Sequence[Sequence[str]], moves: Moves) -> Iterator[Change]:
    """Every setting that can be moved.

    Args:
        sources: what may be changed.
        build: the arena's commands, which say what profile is built.
        moves: what was tried, by the name of the knob.
    """
    yield from _cargo(sources, build, moves)
    for path, text in sources.texts.items():
        name = PurePosixPath(path).name
        if name in {"Makefile", "GNUmakefile", "makefile", "CMakeLists.txt", "meson.build"} or name.endswith(".mk"):
            yield from _flags(path, text, moves)
        elif language_of(path) in {"c", "cpp"} and not path.endswith((".h", ".hpp")):
            yield from _pragmas(path, text, moves)


def profile_of(build: Sequence[Sequence[str]]) -> str:
    """The Cargo profile that commands build; "release" where they do not say."""
    words = [word for command in build for part in command for word in part.split()]
    for before, word in zip(["", *words], words, strict=False):
        if before == "--profile":
            return {"test": "dev", "bench": "release"}.get(word, word)
        if word.startswith("--profile="):
            return word.removeprefix("--profile=")
    builds = "cargo" in words and ("--release" not in words and "-r" not in words)
    return "dev" if builds else "release"


def _cargo(sources: Sources, build: Sequence[Sequence[str]], moves: Moves) -> Iterator[Change]:
    manifests = [path for path in sources.texts if PurePosixPath(path).name == "Cargo.toml"]
    if not manifests:
        return
    # Cargo reads profiles at the root of a workspace only.
    path = min(manifests, key=lambda one: (one.count("/"), one))
    profile = profile_of(build)
    try:
        now = tomlkit.parse(sources.texts[path]).unwrap().get("profile", {}).get(profile, {})
    except (TOMLKitError, AttributeError):
        return
    if not isinstance(now, dict):
        return
    for ladder in CARGO:
        value = _rung(now.get(ladder.key), "0" if ladder.key == "opt-level" and profile == "dev" else ladder.default)
        knob = f"{path}:profile.{profile}.{ladder.key}"
        for rung in next_rungs(ladder.rungs, value, moves.get(knob, ())):
            words = (ladder.hypothesis, ladder.may_break, ladder.risk)
            text = _with_profile(sources.texts[path], profile, ladder.key, _toml(rung))
            gain = ladder.gain if ladder.rungs.index(rung) > _index(ladder, value) else ladder.gain / 4
            yield _change(
                "cargo-profile",
                path,
                f"profile.{profile}.{ladder.key}",
                move=(value, rung),
                text=text,
                words=words,
                gain=gain,
            )
    for key, slow, fast, breaks in CARGO_SWITCHES:
        if now.get(key) is slow:
            text = _with_profile(sources.texts[path], profile, key, fast)
            words = ("A check that release builds do without.", breaks, "")
            yield _change(
                "cargo-profile",
                path,
                f"profile.{profile}.{key}",
                move=(str(slow), str(fast)),
                text=text,
                words=words,
                gain=0.05,
            )


def _flags(path: str, text: str, moves: Moves) -> Iterator[Change]:
    found = FLAG.findall(text)
    if not found:
        return
    value = f"-O{found[0]}"
    words = ("More is inlined, unrolled and made into vectors.", "Nothing, for code that is correct.", "")
    for rung in next_rungs(("-O0", "-O1", "-O2", "-O3"), value, moves.get(f"{path}:-O", ())):
        yield _change(
            "compiler-flag", path, "-O", move=(value, rung), text=FLAG.sub(rung, text), words=words, gain=0.04
        )
    for flag, *about in ADDED_FLAGS:
        if flag not in text:
            added = FLAG.sub(lambda found, flag=flag: f"{found[0]} {flag}", text)  # type: ignore[misc]
            yield _change(
                "compiler-flag", path, flag, move=("absent", "present"), text=added, words=tuple(about), gain=0.03
            )


def _pragmas(path: str, text: str, moves: Moves) -> Iterator[Change]:
    """The same from inside a source file, where the flags themselves are frozen."""
    found = re.search(r'^#pragma GCC optimize\("([^"]*)"\)\n', text, re.MULTILINE)
    value = found[1] if found else "none"
    for rung in next_rungs(("none", *PRAGMAS), value, moves.get(f"{path}:pragma", ())):
        if rung == "none":
            continue
        line = f'#pragma GCC optimize("{rung}")\n'
        changed = text.replace(found[0], line) if found else line + text
        words = ("More is inlined, unrolled and made into vectors.", "Nothing, for code that is correct.", "")
        yield _change("compiler-pragma", path, "pragma", move=(value, rung), text=changed, words=words, gain=0.03)


def _change(
    rule: str, path: str, key: str, *, move: tuple[str, str], text: str, words: tuple[str, ...], gain: float
) -> Change:
    hypothesis, may_break, risk = words
    return Change(
        rule=rule,
        title=f"Set {key} to {move[1]} instead of {move[0]} in {path}"[:500],
        hypothesis=hypothesis,
        may_break=may_break,
        risk=risk,
        gain=gain,
        place=Place(path, everywhere=True),
        key=f"{key} {move[1]}",
        files={path: text},
        knob=Knob(name=f"{path}:{key}"[:200], before=move[0], after=move[1]),
    )


def _with_profile(text: str, profile: str, key: str, value: bool | int | str) -> str:
    document = tomlkit.parse(text)
    if "profile" not in document:
        document["profile"] = tomlkit.table(is_super_table=True)
    profiles = document["profile"]
    if profile not in profiles:
        profiles[profile] = tomlkit.table()
    profiles[profile][key] = value
    return tomlkit.dumps(document)


def _rung(value: object, default: str) -> str:
    """A setting's value as the ladder writes it: `lto = true` is fat."""
    if value is None:
        return default
    return {"True": "fat", "False": "false"}.get(str(value), str(value))


def _toml(rung: str) -> bool | int | str:
    if rung == "false":
        return False
    return int(rung) if rung.isdecimal() else rung


def _index(ladder: Ladder, value: str) -> int:
    return ladder.rungs.index(value) if value in ladder.rungs else 0
