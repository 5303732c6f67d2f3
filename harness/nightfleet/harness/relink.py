"""Another memory layout of the same program: the same build commands, and a linker that lays out differently.

Nothing of the user's is edited. A folder of ours stands first on PATH and in COMPILER_PATH of that one build. It holds
the names of C compilers, which call the real one and point it there for its linker (rustc names a folder of its own for
that, so COMPILER_PATH alone would not do), and the names of linkers, which call the real one with a gap before the
code: what an edit does to all the code behind it. Shuffling functions, which lld could do too, would ask more of a
candidate than its own edit does to it: it moved the time of one program by 1.5% (sd) where gaps moved it by 0.7%. mold
and Go's own linker have no gap to offer, and shuffle. Whether it worked is seen in the programs that come out.

Not covered: linkers that are called by their full path, GNU gold, whatever is not linked (scripts, byte code); where
stack, heap and libraries lie; and a build that looks for our folder and makes another program there.
"""

from pathlib import Path

from nightfleet.harness.arena import Arena
from nightfleet.harness.inventory import Inventory
from nightfleet.harness.record import Record
from nightfleet.harness.surroundings import SandboxOptions
from nightfleet.harness.toolchain import INSIDE_HOME

# Gaps are odd multiples of the alignment of functions, up to four pages, all different below this number of relinks:
# both are primes.
GRAIN_BYTES = 16
_STEP, _GAPS = 409, 1021
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++")
LINKERS = ("ld", "ld.bfd", "ld.lld", "ld.mold")
FOLDER = INSIDE_HOME / ".linking"

_COMPILER = """\
#!/bin/sh
# The compiler that was asked for, told to look here for its linker.
name=${0##*/}
for given in "$@"; do
    case $given in -B?*) NIGHTFLEET_LINKERS=$NIGHTFLEET_LINKERS${given#-B}: ;; esac
done
export NIGHTFLEET_LINKERS
IFS=:
for folder in $PATH; do
    compiler=$folder/$name
    [ -x "$compiler" ] && ! [ "$compiler" -ef "$0" ] && exec "$compiler" "-B${0%/*}" "$@"
done
exit 127
"""
# An assignment alone moves nothing in lld, and a section makes GNU ld warn of a segment that can be written and run.
_LINKER = """\
#!/bin/sh
# The linker that was asked for, told to lay the program out differently.
name=${0##*/}
IFS=:
for folder in $NIGHTFLEET_LINKERS $COMPILER_PATH $PATH; do
    linker=$folder/$name
    [ -x "$linker" ] && ! [ "$linker" -ef "$0" ] && break
done
for given in "$@"; do
    case $given in -r | -i | -Ur | --relocatable) exec "$linker" "$@" ;; esac
done
case $("$linker" --version 2>/dev/null) in
    *LLD*) exec "$linker" -T "${0%/*}/section.ld" "$@" ;;
    *mold*) exec "$linker" "--shuffle-sections=@number@" "$@" ;;
    *"GNU ld"*) exec "$linker" -T "${0%/*}/gap.ld" "$@" ;;
    *) exec "$linker" "$@" ;;
esac
"""
_GAP = "SECTIONS { . = . + @gap@; } INSERT BEFORE .text;\n"
_SECTION = "SECTIONS { .nightfleet_gap : { . = . + @gap@; BYTE(0) } } INSERT BEFORE .text;\n"


class NotRelinkedError(Exception):
    """There is no other layout of this build to be had; the message says why."""


def gap_bytes(number: int) -> int:
    """How far the code of a relink is moved; 0 for none."""
    return GRAIN_BYTES * (number * _STEP % _GAPS)


def put_linkers(folder: Path, number: int) -> None:
    """Make the folder that stands first on PATH of relink `number`."""
    folder.mkdir(mode=0o755)
    texts = {**dict.fromkeys(COMPILERS, _COMPILER), **dict.fromkeys(LINKERS, _LINKER)}
    for name, text in {**texts, "gap.ld": _GAP, "section.ld": _SECTION}.items():
        place = folder / name
        place.write_text(text.replace("@number@", str(number)).replace("@gap@", str(gap_bytes(number))))
        place.chmod(0o755)


def relinking(options: SandboxOptions, folder: Path, number: int) -> SandboxOptions:
    """The options of a build's sandbox, with that folder shown and asked first."""
    env = options["env"]
    more = {
        "PATH": f"{FOLDER}:{env['PATH']}",
        "COMPILER_PATH": str(FOLDER),
        "GOFLAGS": f"{env.get('GOFLAGS', '')} -ldflags=-randlayout={number}".strip(),
    }
    return {**options, "read": [*options["read"], (folder, FOLDER)], "env": {**env, **more}}


def programs(record: Record, arena: Arena) -> Inventory:
    """What is to be linked anew: the programs that workloads name and their twins; if none is named, all that are made.

    Cargo and others keep a second copy of a program, and put it back instead of linking.
    """
    made = {path: item for path, item in record.artefacts.items() if item.kind == "executable"}
    words = {word.removeprefix("./") for workload in arena.workloads for word in workload.run}
    named = {made[path].digest for path in made.keys() & words}
    return {path: item for path, item in made.items() if item.digest in named} or made


def is_relinked(plain: Inventory, record: Record) -> bool:
    """Whether a build has all of these programs, and not one of them is the same."""
    return all(path in record.files and record.files[path].digest != item.digest for path, item in plain.items())
