"""Count where the rules of the search backend fire in code that was not written for them.

    python benchmarks/rule_hits.py --rust DIR --python DIR

Each directory holds packages, one a folder: Cargo's `registry/src/*`, somebody's `site-packages`. For every rule the
table gives the packages and files in which it fires, how many rewrites that is, and how many of these no longer parse
before the backend filters them out. Tests are left out, as the backend does. Exits with 1 if a rule fires in fewer
than three packages or a rewrite that was let through does not parse.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from nightfleet.agents.search.change import Change
from nightfleet.agents.search.constants import sweeps
from nightfleet.agents.search.crates import crate_changes
from nightfleet.agents.search.rules import Rule, changes_in, packaged_rules
from nightfleet.agents.search.settings import settings
from nightfleet.agents.search.sources import LONGEST_LINE, Sources, language_of
from nightfleet.agents.search.syntax import is_broken, parse

LEAST_PACKAGES = 3
SUFFIXES = {"rust": (".rs", "Cargo.toml"), "python": (".py",)}


def packages(folder: Path, language: str, most_bytes: int) -> Iterator[tuple[str, Sources]]:
    """Yield each package's name and those of its files that are no larger than `most_bytes`."""
    for package in sorted(folder.iterdir()):
        if package.is_dir() and not package.name.endswith((".dist-info", "__pycache__")):
            texts = {}
            for path in sorted(package.rglob("*")):
                if path.name.endswith(SUFFIXES[language]) and path.is_file() and path.stat().st_size <= most_bytes:
                    text = path.read_text(encoding="utf-8", errors="replace")
                    if "\r" not in text and max(map(len, text.split("\n"))) <= LONGEST_LINE:
                        texts[str(path.relative_to(package))] = text
            yield package.name, Sources(texts)


def changes(rules: Sequence[Rule], sources: Sources, *, rest: bool) -> Iterator[Change]:
    """Yield what the backend would make of a package."""
    for path, text in sources.texts.items():
        language = language_of(path)
        if language is None or is_broken(text, language):
            continue
        for rule in rules:
            if rule.language == language:
                yield from changes_in(rule, path, text)
        parse.cache_clear()
    if not rest:
        return
    yield from sweeps(sources, {})
    yield from crate_changes(sources, lambda _: True, waiting=True)
    yield from settings(sources, [["cargo", "build", "--release"]], {})


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rust", type=Path)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--most-bytes", type=int, default=100_000)
    parser.add_argument("--rules", nargs="*", help="only these, without constants, settings and whole crates")
    given = parser.parse_args()
    rules = [
        rule for rule in (*packaged_rules(), *packaged_rules(waiting=True)) if not given.rules or rule.id in given.rules
    ]
    hits: Counter[str] = Counter()
    files: defaultdict[str, set[str]] = defaultdict(set)
    where: defaultdict[str, set[str]] = defaultdict(set)
    broken: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for language in ("rust", "python"):
        folder: Path | None = getattr(given, language)
        for name, sources in packages(folder, language, given.most_bytes) if folder else ():
            seen[language] += 1
            seen[f"{language} files"] += len(sources.texts)
            print(f"{language}: {name}", file=sys.stderr, flush=True)
            for change in changes(rules, sources, rest=not given.rules):
                hits[change.rule] += 1
                where[change.rule].add(name)
                files[change.rule] |= {f"{name}/{path}" for path in change.files}
                checked = ((text, language_of(path)) for path, text in change.files.items())
                broken[change.rule] += any(kind is not None and is_broken(text, kind) for text, kind in checked)
    print("| rule | packages | files | rewrites | do not parse |\n|---|---:|---:|---:|---:|")
    mine = [rule.id for rule in rules if getattr(given, rule.language, None)]
    for rule in sorted({*hits, *mine}):
        print(f"| {rule} | {len(where[rule])} | {len(files[rule])} | {hits[rule]} | {broken[rule]} |")
    counted = ", ".join(f"{seen[one]} {one} packages ({seen[f'{one} files']} files)" for one in ("rust", "python"))
    print(f"\n{counted}")
    return 1 if broken.total() or any(len(where[rule]) < LEAST_PACKAGES for rule in mine) else 0


if __name__ == "__main__":
    sys.exit(main())
