"""Changes to package manifests that do more than `edit` was meant to allow.

`edit` may name `Cargo.toml`, because profiles and features are a good place for gains; but a manifest can also bring in
code from elsewhere, or have code run at build time. Four kinds of change are out of scope unless the arena's `allow`
names them:

| kind | what it is |
|---|---|
| `dependencies` | a new or other dependency, a lock file |
| `build_scripts` | what build, packaging or test tools run or obey by its name or by the manifest's word |
| `patches` | a dependency replaced by another source |
| `outside_paths` | a path that leads out of the tree |

Only what *changes* against the baseline is looked at. A manifest that cannot be parsed is out of scope.
"""

import json
import posixpath
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

Finding: TypeAlias = tuple[str, str]
"""The kind, and what was found, in words that follow the path."""
Table: TypeAlias = Mapping[str, Any]

# Files that tools act on because of their name alone: a pattern like **/*.py was not meant to cover them.
RUN_BY_NAME = frozenset(
    {"build.rs", "setup.py", "setup.cfg", "binding.gyp", "conftest.py", "pytest.ini", "tox.ini", "sitecustomize.py"}
    | {
        "usercustomize.py",
        "rust-toolchain",
        "rust-toolchain.toml",
        ".npmrc",
        ".yarnrc",
        ".yarnrc.yml",
        ".python-version",
    }
)
LOCKS = frozenset(
    {"Cargo.lock", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "uv.lock", "poetry.lock"}
    | {"pdm.lock", "Pipfile", "Pipfile.lock", "go.mod", "go.sum", "go.work", "Gemfile", "Gemfile.lock"}
)
CARGO_DEPENDENCIES = ("dependencies", "dev-dependencies", "build-dependencies")
# How a dependency is compiled, not which code it is.
CARGO_TUNING = frozenset({"features", "default-features", "default_features", "optional"})
# The parts of Cargo's configuration that only tune; a linker, a wrapper or a runner is a program that gets run.
CARGO_CONFIG_TUNING = ("rustflags", "incremental", "jobs")
NPM_DEPENDENCIES = (
    *("dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "bundleDependencies"),
    *("bundledDependencies", "workspaces"),
)
NPM_PATCHES = ("overrides", "resolutions", "pnpm")
NPM_SCRIPTS = ("scripts", "gypfile", "packageManager", "engines")
PYTHON_DEPENDENCIES = ("dependencies", "optional-dependencies", "dynamic", "requires-python")
PYTHON_ENTRY_POINTS = ("scripts", "gui-scripts", "entry-points")


def manifest_findings(path: str, before: bytes | None, after: bytes | None, *, named: bool = False) -> list[Finding]:
    """What a change of one file brings in, as (kind, words).

    Args:
        path: of the file, relative to the arena's folder.
        before: the baseline's contents; None if the candidate adds the file.
        after: the candidate's; None if it removes the file.
        named: whether `edit` names this very path, not just a pattern that it matches. Then a person meant it, and an
            existing file that tools run by its name may be changed.
    """
    name = posixpath.basename(path)
    if name in LOCKS or (name.startswith("requirements") and name.endswith((".txt", ".in"))):
        return [("dependencies", "decides which dependencies are used")]
    if (name in RUN_BY_NAME or name.endswith(".pth")) and not (named and before is not None):
        return [("build_scripts", "is a file that tools run or obey by its name")]
    reader = _reader(path)
    if reader is None or after is None:
        return []
    parse, compare = reader
    try:
        old = {} if before is None else parse(before)
    except (ValueError, RecursionError):
        old = {}
    try:
        new = parse(after)
    except (ValueError, RecursionError) as error:
        return [("build_scripts", f"cannot be read as a manifest: {error}")]
    return list(dict.fromkeys(compare(path, old, new)))


def _reader(path: str) -> tuple[Callable[[bytes], Table], Callable[[str, Table, Table], Iterator[Finding]]] | None:
    name = posixpath.basename(path)
    if posixpath.dirname(path).endswith(".cargo") and name in {"config", "config.toml"}:
        return _toml, _cargo_config
    return {
        "Cargo.toml": (_toml, _cargo),
        "package.json": (_json, _npm),
        "pyproject.toml": (_toml, _python),
    }.get(name)


def _toml(data: bytes) -> Table:
    return tomllib.loads(data.decode("utf-8"))


def _json(data: bytes) -> Table:
    # Which of two equal keys counts differs between readers, and that would be a way past this one.
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return dict(pairs)

    value = json.loads(data.decode("utf-8"), object_pairs_hook=members)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - a ValueError like every other unreadable manifest
    return value


def _cargo(path: str, old: Table, new: Table) -> Iterator[Finding]:
    before, after = dict(_cargo_dependencies(old)), dict(_cargo_dependencies(new))
    for name, source in after.items():
        if name not in before or before[name] != source:
            yield "dependencies", f"has a {'new' if name not in before else 'changed'} dependency {name!r}"
    for key in ("build", "links"):
        if _at(new, "package", key) != _at(old, "package", key) and _at(new, "package", key) is not False:
            yield "build_scripts", f"changes package.{key}"
    for key in ("proc-macro", "proc_macro", "plugin"):
        if _at(new, "lib", key) and not _at(old, "lib", key):
            yield "build_scripts", f"sets lib.{key}: code that runs in the compiler"
    for key in ("patch", "replace"):
        if new.get(key) != old.get(key):
            yield "patches", f"changes [{key}]"
    for value in sorted(_cargo_paths(new) - _cargo_paths(old)):
        if _leads_out(path, value):
            yield "outside_paths", f"names {value!r}, outside the tree"


def _cargo_paths(manifest: Table) -> set[str]:
    members = (_at(manifest, *keys) for keys in (("workspace", "members"), ("package", "workspace")))
    return {*_paths(manifest), *(text for value in members for text in _texts(value))}


def _cargo_dependencies(manifest: Table) -> Iterator[tuple[str, Any]]:
    """Each dependency by table and name, without what only tunes it."""
    targets = manifest.get("target")
    places: list[tuple[str, Any]] = [("", manifest), ("workspace.", manifest.get("workspace"))]
    places += [(f"target.{name}.", table) for name, table in (targets.items() if isinstance(targets, dict) else ())]
    for prefix, place in places:
        for table in CARGO_DEPENDENCIES:
            for name, given in (*_members(_at(place, table)), *_members(_at(place, table.replace("-", "_")))):
                source = {"version": given} if isinstance(given, str) else dict(_members(given))
                kept = {part: value for part, value in source.items() if part not in CARGO_TUNING}
                yield f"{prefix}{table}.{name}", kept


def _cargo_config(_path: str, old: Table, new: Table) -> Iterator[Finding]:
    if _without_tuning(new) != _without_tuning(old):
        yield (
            "build_scripts",
            f"changes more of Cargo's configuration than {', '.join(CARGO_CONFIG_TUNING)} and profiles",
        )


def _without_tuning(config: Table) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key == "profile" or (key in CARGO_CONFIG_TUNING):
            continue
        inner = _without_tuning(value) if isinstance(value, dict) else value
        if inner != {}:
            kept[key] = inner
    return kept


def _npm(path: str, old: Table, new: Table) -> Iterator[Finding]:
    for kind, keys in (
        ("dependencies", NPM_DEPENDENCIES),
        ("patches", NPM_PATCHES),
        ("build_scripts", NPM_SCRIPTS),
    ):
        yield from ((kind, f"changes {key!r}") for key in keys if new.get(key) != old.get(key))
    outside = [value for value in set(_texts(new)) - set(_texts(old)) if value.startswith("file:")]
    yield from (("outside_paths", f"names {value!r}") for value in sorted(outside) if _leads_out(path, value[5:]))


def _python(_path: str, old: Table, new: Table) -> Iterator[Finding]:
    for key in PYTHON_DEPENDENCIES:
        if _at(new, "project", key) != _at(old, "project", key):
            yield "dependencies", f"changes project.{key}"
    if new.get("dependency-groups") != old.get("dependency-groups"):
        yield "dependencies", "changes dependency-groups"
    for key in PYTHON_ENTRY_POINTS:
        if _at(new, "project", key) != _at(old, "project", key):
            yield "build_scripts", f"changes project.{key}"
    # A build backend is code that runs, and nearly every tool's section can name code, a plugin or another source.
    for key in ("build-system", "tool"):
        if new.get(key) != old.get(key):
            yield "build_scripts", f"changes [{key}]"


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    yield from value.items() if isinstance(value, dict) else ()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _paths(value: Any) -> Iterator[str]:
    """Every text under a key `path`, wherever it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "path" and isinstance(inner, str):
                yield inner
            else:
                yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)


def _leads_out(manifest: str, path: str) -> bool:
    place = posixpath.normpath(posixpath.join(posixpath.dirname(manifest), path))
    return place == ".." or place.startswith(("../", "/", "~"))
