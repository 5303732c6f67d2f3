"""The files that may be changed, as text with a language."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nightfleet.harness.folder import Folder
from nightfleet.harness.scope import Scope

# Fixed: generated tables and minified bundles are no place for a rule.
MOST_FILE_BYTES = 512 << 10
LONGEST_LINE = 2_000

LANGUAGES: Mapping[str, str] = {
    ".rs": "rust",
    ".py": "python",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hpp": "cpp",
    ".go": "go",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".java": "java",
}


@dataclass(frozen=True)
class Sources:
    """Texts by path; what is not UTF-8, too long or no regular file is left out."""

    texts: Mapping[str, str]

    def of(self, *languages: str) -> dict[str, str]:
        """Those in one of these languages, by path."""
        return {path: text for path, text in self.texts.items() if language_of(path) in languages}


def read_sources(tree: Path, scope: Scope) -> Sources:
    """What a scope lets an agent change in a folder, sorted by path; links are not followed.

    Raises:
        UserError: there is no such folder, or too much in it.
    """
    found = Folder(tree).tree()
    paths = [path for path, entry in found.files.items() if entry.size <= MOST_FILE_BYTES]
    texts = ((path, _text(found.read(path))) for path in sorted(paths) if scope.frozen_because(path) is None)
    return Sources({path: text for path, text in texts if text is not None})


def language_of(path: str) -> str | None:
    """The language of a file by its ending; None for none that has rules."""
    return LANGUAGES.get(PurePosixPath(path).suffix)


def _text(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # A carriage return would be lost or doubled by an edit of whole lines.
    usable = "\0" not in text and "\r" not in text and max(map(len, text.split("\n"))) <= LONGEST_LINE
    return text if usable else None
