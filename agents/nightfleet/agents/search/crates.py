"""Rewrites of a whole Rust crate: what one pattern cannot say because it takes a definition and all its uses.

Each is as blind to types as a pattern is: it goes by names and by the shape of code, and leaves it to the compiler to
refuse what does not fit.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files

from ast_grep_py import SgNode

from nightfleet.agents.search.change import Change, Place
from nightfleet.agents.search.rules import edited, with_lines_at_top
from nightfleet.agents.search.sources import Sources
from nightfleet.agents.search.syntax import function_of, is_broken, is_test, parse

Allowed = Callable[[str], bool]
"""Whether a path may be written."""

USE_ONE = re.compile(r"^([ \t]*)((?:pub )?)use std::collections::(HashMap|HashSet);", re.MULTILINE)
USE_SEVERAL = re.compile(r"^([ \t]*)use std::collections::\{([^{}]*)\};", re.MULTILINE)
# Methods that need their owner to be mutable; with a shared field they get a copy of their own where it is shared.
CHANGING = re.compile(
    r"^(push\w*|insert\w*|remove\w*|clear|sort\w*|get_mut|iter_mut|values_mut|entry|retain\w*|truncate|extend\w*|pop\w*"
    r"|swap\w*|drain|append|last_mut|first_mut|resize\w*|fill\w*|reverse|dedup\w*|split_at_mut|as_mut\w*|rotate\w*"
    r"|reserve\w*|shrink\w*|chunks_mut|chunks_exact_mut|copy_\w+|clone_from\w*|front_mut|back_mut)$"
)
SHAREABLE = re.compile(r"^(std::collections::)?(Vec|VecDeque|HashMap|HashSet|BTreeMap|BTreeSet)<|^String$")
DERIVE = re.compile(r"#\[derive\(([^)]*)\)\]")


def crate_changes(sources: Sources, allowed: Allowed, *, waiting: bool = False) -> Iterator[Change]:
    """Every rewrite of a whole crate that applies.

    Args:
        sources: what may be changed.
        allowed: says which files may be added.
        waiting: also those that were not yet seen to fire in three unrelated packages.
    """
    texts = sources.of("rust")
    yield from quick_hash(texts, allowed)
    yield from shared_fields(texts)
    if waiting:
        yield from reused_clones(texts)


def quick_hash(texts: dict[str, str], allowed: Allowed) -> Iterator[Change]:
    """Hash tables of a crate get a quick hasher, in a module of their own."""
    for root in sorted(path for path in texts if path.endswith(("src/main.rs", "src/lib.rs"))):
        folder = posixpath.dirname(root)
        module = f"{folder}/quick_hash.rs" if folder else "quick_hash.rs"
        both = f"{folder}/lib.rs" in texts and f"{folder}/main.rs" in texts
        inside = {path: text for path, text in texts.items() if path.startswith(f"{folder}/") and "/bin/" not in path}
        changed = {path: new for path, text in inside.items() if (new := _quickly_hashed(text)) != text}
        if not changed or module in texts or both or not allowed(module):
            continue
        changed[root] = with_lines_at_top(changed.get(root, texts[root]), "rust", ["mod quick_hash;"])
        changed[module] = (files("nightfleet.agents.search") / "quick_hash.rs").read_text(encoding="utf-8")
        if any(is_broken(text, "rust") for text in changed.values()):
            continue
        yield Change(
            rule="rust-quick-hash",
            title=f"Hash quickly in the tables of {folder or 'the crate'}",
            hypothesis="The default hash is made to withstand attacks and costs more than small keys need.",
            may_break="The order of iteration, which is random with the default. Keys chosen in bad faith collide.",
            risk="Another hash to look after; a service that hashes what strangers send should keep the default.",
            gain=0.05,
            place=Place(root, everywhere=True),
            key="quick-hash",
            files=changed,
        )


def _quickly_hashed(text: str) -> str:
    def several(found: re.Match[str]) -> str:
        names = [name.strip() for name in found[2].split(",") if name.strip()]
        hashed = [name for name in names if name in {"HashMap", "HashSet"}]
        rest = [name for name in names if name not in hashed]
        lines = [f"use crate::quick_hash::{name};" for name in hashed]
        lines += [f"use std::collections::{{{', '.join(rest)}}};"] if rest else []
        return "\n".join(found[1] + line for line in lines) if hashed else found[0]

    used = USE_SEVERAL.sub(several, USE_ONE.sub(r"\1\2use crate::quick_hash::\3;", text))
    if used == text:
        return text
    used = re.sub(r"(?<![\w:])(HashMap|HashSet)(::<[^()]*>)?::new\(\)", r"\1\2::default()", used)
    used = re.sub(r"(?<![\w:])(HashMap|HashSet)::from\(", r"\1::from_iter(", used)
    return re.sub(
        r"(?<![\w:])(HashMap|HashSet)::with_capacity\(([^()]*(?:\([^()]*\))*[^()]*)\)",
        r"\1::with_capacity_and_hasher(\2, Default::default())",
        used,
    )


def shared_fields(texts: dict[str, str]) -> Iterator[Change]:
    """A collection in a struct that is cloned is shared between the clones, and copied when one of them is changed."""
    owners = [(path, struct, field) for path, text in texts.items() for struct, field in _fields(path, text)]
    names = [_text(field, "name") for _, _, field in owners]
    for path, struct, field in owners:
        name, kind = _text(field, "name"), _text(field, "type")
        if "Clone" not in _derived(struct) or not SHAREABLE.match(kind) or names.count(name) > 1:
            continue
        changed = {
            where: new for where, text in texts.items() if (new := _shared(text, _text(struct, "name"), name)) != text
        }
        if not changed or any(is_broken(text, "rust") for text in changed.values()):
            continue
        yield Change(
            rule="rust-share-field",
            title=f"Share {name} between clones of {_text(struct, 'name')}",
            hypothesis="Every clone copies the whole collection; one that is rarely changed need not be copied at all.",
            may_break="Nothing: what is shared is copied before it is changed. Does not build where it is given away.",
            risk="Counting who shares it costs where clones are few, and each change asks whether it is shared.",
            gain=0.06,
            place=replace(Place.of(path, struct), copies=_text(struct, "name")),
            key=f"{_text(struct, 'name')}.{name}",
            files=changed,
        )


def _shared(text: str, struct: str, field: str) -> str:
    """A file in which a field is an `Arc`: its type, the places that make one, and those that change it."""
    root, arc = parse(text, "rust"), "std::sync::Arc"
    edits: list[tuple[int, int, str]] = []
    for owner in root.find_all(kind="struct_item"):
        for one in owner.find_all(kind="field_declaration") if _text(owner, "name") == struct else ():
            kind = one.field("type")
            if _text(one, "name") == field and kind is not None:
                edits.append(_replace(kind, f"{arc}<{kind.text()}>"))
    for made in root.find_all(kind="struct_expression"):
        if _text(made, "name").split("::")[0] in {struct, "Self"}:
            edits += _shared_when_made(made, field, arc)
    for used in root.find_all(kind="field_expression"):
        if _text(used, "field") == field:
            edits += _shared_when_used(used, arc)
    return edited(text, edits)


def _shared_when_made(made: SgNode, field: str, arc: str) -> Iterator[tuple[int, int, str]]:
    body = made.field("body")
    for one in () if body is None else body.children():
        value = one.field("value")
        if one.kind() == "shorthand_field_initializer" and one.text() == field:
            yield _replace(one, f"{field}: {arc}::new({field})")
        elif one.kind() == "field_initializer" and _text(one, "field") == field and value is not None:
            clone = re.fullmatch(rf".*\.{field}\.clone\(\)", value.text())
            if clone is None:
                start, end = _span(value)
                yield start, start, f"{arc}::new("
                yield end, end, ")"


def _shared_when_used(used: SgNode, arc: str) -> Iterator[tuple[int, int, str]]:
    place, parent = used, used.parent()
    while parent is not None and parent.kind() in {"index_expression", "field_expression"} and parent.child(0) == place:
        place, parent = parent, parent.parent()
    if parent is None:
        return
    called = place if place.kind() == "field_expression" and parent.kind() == "call_expression" else None
    changing = called is not None and bool(CHANGING.match(_text(called, "field")))
    assigned = parent.kind() in {"assignment_expression", "compound_assignment_expr"} and parent.field("left") == place
    borrowed = parent.kind() == "reference_expression"
    mutable = borrowed and any(child.kind() == "mutable_specifier" for child in parent.children())
    start, end = _span(used)
    if assigned and place == used and parent.kind() == "assignment_expression":
        right = parent.field("right")
        if right is not None:
            yield _span(right)[0], _span(right)[0], f"{arc}::new("
            yield _span(right)[1], _span(right)[1], ")"
    elif mutable and place == used:
        yield _span(parent)[0], end, f"{arc}::make_mut(&mut {used.text()})"
    elif assigned or mutable or changing:
        yield start, end, f"{arc}::make_mut(&mut {used.text()})"
    elif borrowed and place == used:
        yield start, start, "*"
    elif called is not None and _text(called, "field") == "clone" and called.child(0) == used:
        yield start, end, f"(*{used.text()})"


def reused_clones(texts: dict[str, str]) -> Iterator[Change]:
    """A clone that a loop makes anew each time is made once, and filled again in what it has allocated."""
    for path, text in texts.items():
        for loop in parse(text, "rust").find_all(kind="for_expression"):
            body = loop.field("body")
            found = None if body is None or is_test(path, loop) else _clone_in(body)
            if found is None:
                continue
            change = _reused(texts, path, loop, found)
            if change is not None:
                yield change


def _clone_in(body: SgNode) -> tuple[SgNode, str, str] | None:
    for statement in body.children():
        match = re.fullmatch(r"let mut (\w+) = ([\w.]+)\.clone\(\);", statement.text())
        if match is not None:
            return statement, match[1], match[2]
    return None


def _reused(texts: dict[str, str], path: str, loop: SgNode, found: tuple[SgNode, str, str]) -> Change | None:
    statement, name, source = found
    text = texts[path]
    outer = loop.parent()
    whole = outer if outer is not None and outer.kind() == "expression_statement" else loop
    start = _span(whole)[0]
    indent = text[text.rfind("\n", 0, start) + 1 : start]
    edits = [
        (start, start, f"let mut {name} = {source}.clone();\n{indent}"),
        _replace(statement, f"{name}.clone_from(&{source});"),
    ]
    changed = {**texts, path: edited(text, edits)}
    struct = _type_of(loop, source)
    for where, new in changed.items():
        if (written := _clone_by_field(new, struct)) is not None:
            changed[where] = written
            break
    files_changed = {where: new for where, new in changed.items() if new != texts[where]}
    if any(is_broken(new, "rust") for new in files_changed.values()):
        return None
    return Change(
        rule="rust-reuse-clone",
        title=f"Clone {source} into the same place in each turn of a loop"[:500],
        hypothesis="Each clone allocates all that the last one freed.",
        may_break="Nothing. Does not build where the loop gives the clone away.",
        risk="A Clone written by hand has to follow the struct's fields.",
        gain=0.06,
        place=Place.of(path, statement),
        key=f"{name} = {source}",
        files=files_changed,
    )


def _type_of(loop: SgNode, source: str) -> str:
    """The name of the type of a function's parameter, or of `self`; empty where that is not to be seen."""
    function = function_of(loop)
    parameters = None if function is None else function.field("parameters")
    if source == "self" and function is not None:
        impl = next((one for one in function.ancestors() if one.kind() == "impl_item"), None)
        return "" if impl is None else _text(impl, "type")
    for one in () if parameters is None else parameters.children():
        if one.kind() == "parameter" and _text(one, "pattern") == source:
            return _text(one, "type").removeprefix("&").removeprefix("mut ").strip()
    return ""


def _clone_by_field(text: str, struct: str) -> str | None:
    """A file where a struct's derived Clone is written out, so that `clone_from` keeps what fields have allocated."""
    for one in parse(text, "rust").find_all(kind="struct_item"):
        body = one.field("body")
        plain = body is not None and body.kind() == "field_declaration_list" and one.field("type_parameters") is None
        derive = next((node for node in _attributes(one) if "Clone" in _names(node.text())), None)
        if _text(one, "name") != struct or not plain or body is None or derive is None:
            continue
        fields = [_text(field, "name") for field in body.children() if field.kind() == "field_declaration"]
        rest = [name for name in _names(derive.text()) if name not in {"Clone", "Copy"}]
        if not fields or "Copy" in _names(derive.text()):
            return None
        made = ", ".join(f"{name}: self.{name}.clone()" for name in fields)
        filled = "\n".join(f"        self.{name}.clone_from(&source.{name});" for name in fields)
        written = (
            f"\n\nimpl Clone for {struct} {{\n    fn clone(&self) -> Self {{\n        {struct} {{ {made} }}\n    }}\n\n"
            f"    fn clone_from(&mut self, source: &Self) {{\n{filled}\n    }}\n}}"
        )
        start, end = _span(derive)
        end += text[end : end + 1] == "\n" and not rest
        derived = f"#[derive({', '.join(rest)})]" if rest else ""
        return edited(text, [(start, end, derived), (_span(one)[1], _span(one)[1], written)])
    return None


def _fields(path: str, text: str) -> Iterator[tuple[SgNode, SgNode]]:
    for struct in parse(text, "rust").find_all(kind="struct_item"):
        if not is_test(path, struct):
            yield from ((struct, field) for field in struct.find_all(kind="field_declaration"))


def _derived(struct: SgNode) -> list[str]:
    return [name for attribute in _attributes(struct) for name in _names(attribute.text())]


def _attributes(struct: SgNode) -> Iterator[SgNode]:
    before = struct.prev()
    while before is not None and before.kind() in {"attribute_item", "line_comment", "block_comment"}:
        if before.kind() == "attribute_item":
            yield before
        before = before.prev()


def _names(derive: str) -> list[str]:
    found = DERIVE.fullmatch(derive)
    return [name.strip() for name in found[1].split(",") if name.strip()] if found else []


def _text(node: SgNode, field: str) -> str:
    found = node.field(field)
    return "" if found is None else found.text()


def _span(node: SgNode) -> tuple[int, int]:
    return node.range().start.index, node.range().end.index


def _replace(node: SgNode, new: str) -> tuple[int, int, str]:
    return (*_span(node), new)
