"""From a section of the front matter to a checked model: pydantic's findings in the words of `ProgramError`.

Only shapes and single values are checked here; what keys demand of each other is their owner's to say.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

from nightfleet.harness.frontmatter import KeyPath, ProgramError, Section


class Keys(BaseModel):
    """The keys of one mapping; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    LATER: ClassVar[Mapping[str, str]] = {}
    """Keys that the design has and this version has not, each with what to do meanwhile."""
    SHAPE: ClassVar[str] = "a mapping"
    """What to write where something else than a mapping was found."""


Model = TypeVar("Model", bound=Keys)


def one_of(*words: str, later: Sequence[str] = (), others: str = "") -> PlainValidator:
    """Reads one of a few words.

    Args:
        words: what this version knows.
        later: what the design has beyond it; refused with a reason of its own.
        others: what to say about every other word.
    """

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        known = ", ".join(words)
        if value in later:
            raise ValueError(f"{value!r} is not available in this version; available: {known}")
        raise ValueError(f"must be one of {known}; got {value!r}{did_you_mean(str(value), words)}{others}")

    return PlainValidator(read)


def text(*, longest: int = 200) -> PlainValidator:
    """Reads one line of printable text, in characters."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            # ValueError, here and everywhere in this room's readers: pydantic lets a TypeError through.
            raise ValueError(f"must be text; got {value!r}, so put it in quotes")  # noqa: TRY004
        if not value.strip() or len(value) > longest or not value.isprintable():
            raise ValueError(f"must be one line of 1 to {longest} printable characters; got {value[:longest]!r}")
        return value

    return PlainValidator(read)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def read_keys(section: Section, model: type[Model]) -> Model:
    """Check a section against its model.

    Raises:
        ProgramError: for the first finding, in the order of lines.
    """
    try:
        return model.model_validate(dict(section.values))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True)
        # A key that is missing was often only misspelt: tell about the one that is there.
        worst = min(found, key=lambda detail: (detail["type"] == "missing", section.line(detail["loc"])))
        raise _told(worst, section, model) from None


def unknown_key(section: Section, path: KeyPath, known: Sequence[str]) -> ProgramError:
    """The error for a key that nobody owns."""
    return section.error(
        path, f"there is no such key{did_you_mean(str(path[-1]), known)}", f"known: {', '.join(known)}"
    )


def key_names(model: type[Keys], prefix: str = "") -> Iterator[str]:
    """Every key that a model knows, as documentation writes it: `guards.wall`, `workloads[].run`."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = _inner(field.annotation)
        if inner is not None:
            between = "[]." if _is_list(field.annotation) else "."
            yield from key_names(inner, f"{prefix}{name}{between}")


def _told(detail: ErrorDetails, section: Section, model: type[Keys]) -> ProgramError:
    path: KeyPath = detail["loc"]
    owner = _owner(model, path)
    match detail["type"]:
        case "extra_forbidden" if str(path[-1]) in owner.LATER:
            return section.error(path, "is not available in this version", owner.LATER[str(path[-1])])
        case "extra_forbidden":
            return unknown_key(section, path, list(owner.model_fields))
        case "missing":
            example = owner.model_fields[str(path[-1])].examples or ["…"]
            return section.error(path, "is missing", f"type '{path[-1]}: {example[0]}'")
        case "value_error":
            return section.error(path, str(detail["ctx"]["error"]))
        case "model_type":
            inner = _inner(owner.model_fields[str(path[-1])].annotation) if isinstance(path[-1], str) else owner
            wanted = f"must be {(inner or owner).SHAPE}"
        case "list_type":
            wanted = "must be a list, one '- …' a line"
        case _:
            wanted = detail["msg"]
    return section.error(path, f"{wanted}; got {detail['input']!r}")


def _owner(model: type[Keys], path: KeyPath) -> type[Keys]:
    """The model whose key ends the path."""
    for part in path[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            model = _inner(model.model_fields[part].annotation) or model
    return model


def _inner(annotation: Any) -> type[Keys] | None:
    if isinstance(annotation, type) and issubclass(annotation, Keys):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list or any(_is_list(part) for part in get_args(annotation))
