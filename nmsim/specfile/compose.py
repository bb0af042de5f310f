"""From the events of a YAML parser to a graph of nodes, and from the graph to plain data; all caps are kept here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from nmsim.errors import Problem, SpecError
from nmsim.specfile import scalars
from nmsim.specfile.document import Path, Position, format_path

MAX_NODES = 200_000
MAX_DEPTH = 64

SCALAR = "?"
"""Stands for the path of a scalar until the whole document is known."""

_CORE = "tag:yaml.org,2002:"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass
class Node:
    """A scalar (`value` is its plain value), a list of nodes, or a mapping of keys to (key node, value node).

    `size` and `height` count the nodes in it and the levels below it, aliases expanded.
    """

    value: scalars.Scalar | list[Node] | dict[str, tuple[Node, Node]]
    position: Position
    size: int = 1
    height: int = 0


def compose(events: Iterator[Event], file: str) -> Node | None:
    """The root of the only document in `events`, None where there is none; raises SpecError with every mistake."""
    composer = _Composer(events, file)
    try:
        root = composer.document()
    except SpecError as stop:
        raise SpecError([*_with_paths(composer.problems, None), *stop.problems]) from None
    if composer.problems:
        raise SpecError(_with_paths(composer.problems, root))
    return root


def _with_paths(problems: list[Problem], root: Node | None) -> list[Problem]:
    """The problems, those that stand where a scalar of `root` does with its path."""
    positions = expand(root)[1] if root else {}
    paths = {place: path for path, place in positions.items() if path}
    return [
        replace(p, path=format_path(paths.get((p.line, p.column), ()))) if p.path == SCALAR else p for p in problems
    ]


def expand(root: Node) -> tuple[object, dict[Path, Position], dict[Path, Position]]:
    """The plain data of `root`, the position of every value, and the position of every key.

    An aliased value stands where its anchor wrote it.
    """
    positions: dict[Path, Position] = {}
    keys: dict[Path, Position] = {}

    def plain(node: Node, path: Path) -> object:
        positions.setdefault(path, node.position)
        if isinstance(node.value, list):
            return [plain(item, (*path, i)) for i, item in enumerate(node.value)]
        if not isinstance(node.value, dict):
            return node.value
        for name, (key, value) in node.value.items():
            keys[*path, name] = key.position
            if isinstance(value.value, list | dict):
                positions[*path, name] = key.position
        return {name: plain(value, (*path, name)) for name, (_, value) in node.value.items()}

    return plain(root, ()), positions, keys


class _Composer:
    """Reads nodes from events, counting them; goes on after a mistake in a value, stops at a cap."""

    def __init__(self, events: Iterator[Event], file: str):
        self.events = events
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}
        self.count = 0

    def document(self) -> Node | None:
        root: Node | None = None
        starts = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                starts += 1
                if starts > 1:
                    raise self._stop(event, "a second document begins; a file holds one document")
            elif isinstance(event, NodeEvent):
                root = self._node(event, 0)
        return root

    def _node(self, event: NodeEvent, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        before = self.count
        self._add(event, 1, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # open: an alias to it in here would never end
        node = self._content(event, depth)
        node.size = self.count - before
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _content(self, event: NodeEvent, depth: int) -> Node:
        if isinstance(event, ScalarEvent):
            return Node(self._scalar(event), _position(event))
        self._tag_is_known(event)
        return self._mapping(event, depth) if isinstance(event, MappingStartEvent) else self._sequence(event, depth)

    def _alias(self, event: NodeEvent, depth: int) -> Node:
        if event.anchor not in self.anchors:
            raise self._stop(event, f"the alias *{event.anchor} has no anchor &{event.anchor} above it")
        node = self.anchors[event.anchor]
        if node is None:
            raise self._stop(event, f"the alias *{event.anchor} stands inside what it names")
        self._add(event, node.size, depth + node.height)
        return node

    def _sequence(self, event: NodeEvent, depth: int) -> Node:
        items = [self._node(child, depth + 1) for child in self._children()]
        return Node(list(items), _position(event), height=1 + max((i.height for i in items), default=0))

    def _mapping(self, event: NodeEvent, depth: int) -> Node:
        entries: dict[str, tuple[Node, Node]] = {}
        height = 0
        children = self._children()
        for child in children:
            key = self._node(child, depth + 1)
            value = self._node(next(children), depth + 1)
            height = max(height, key.height, value.height)
            if name := self._key(child, key, entries):
                entries[name] = (key, value)
        return Node(entries, _position(event), height=1 + height)

    def _children(self) -> Iterator[NodeEvent]:
        """The events that open the children of the collection whose start was just read."""
        for event in self.events:
            if isinstance(event, CollectionEndEvent):
                return
            if isinstance(event, NodeEvent):
                yield event

    def _key(self, event: NodeEvent, key: Node, entries: dict[str, tuple[Node, Node]]) -> str | None:
        """The name that `key` writes; None, with a problem noted, if it cannot be used."""
        name = key.value
        if not isinstance(name, str):
            written = f"; quote it: '{event.value}'" if isinstance(event, ScalarEvent) else ""
            self._note(event, f"a key must be a text{written}")
        elif name in entries:
            first = entries[name][0].position
            self._note(event, f"the key {name!r} stands here again; it was first at line {first[0]}, column {first[1]}")
        elif name == "<<":
            self._note(event, "the merge key << is not part of YAML 1.2; write the entries out")
        else:
            return name
        return None

    def _scalar(self, event: ScalarEvent) -> scalars.Scalar:
        text = event.value
        tag = _tag(event)
        if not self._tag_is_known(event):
            return text
        try:
            if _SURROGATE.search(text):
                text = _joined(text)
            if tag.startswith(_CORE):
                return scalars.cast(text, tag.removeprefix(_CORE))
            return scalars.resolve(text) if event.style is None and not tag else text
        except ValueError as error:
            self._note(event, str(error), SCALAR)
            return text

    def _tag_is_known(self, event: NodeEvent) -> bool:
        """Whether the tag of `event` is none or a core tag of its kind; notes a problem otherwise."""
        if isinstance(event, ScalarEvent):
            known = {_CORE + kind for kind in ("null", "bool", "int", "float", "str")}
        else:
            known = {_CORE + ("map" if isinstance(event, MappingStartEvent) else "seq")}
        tag = _tag(event)
        if tag in {"", "!", *known}:
            return True
        shown = tag.replace(_CORE, "!!")
        self._note(event, f"the tag {shown} is not allowed here; write the value without a tag")
        return False

    def _add(self, event: NodeEvent, nodes: int, depth: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            raise self._stop(event, f"more than {MAX_NODES:,} values, aliases expanded")
        if depth > MAX_DEPTH:
            raise self._stop(event, f"nested deeper than {MAX_DEPTH} levels")

    def _note(self, event: Event, message: str, path: str = "") -> None:
        self.problems.append(Problem(self.file, *_position(event), path, message))

    def _stop(self, event: Event, message: str) -> SpecError:
        return SpecError([Problem(self.file, *_position(event), "", message)])


def _position(event: Event) -> Position:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _tag(event: NodeEvent) -> str:
    tag = getattr(event, "tag", None)
    return "" if tag is None else str(tag)


def _joined(text: str) -> str:
    """`text` with the surrogate pairs that JSON's escapes write joined to characters."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("an escape writes half a character (a lone surrogate)") from None
