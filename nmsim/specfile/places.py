"""A place in a model: where an error location of pydantic leads, in the terms of the file and of the model's types."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nmsim.specfile.document import Path


@dataclass(frozen=True)
class Place:
    """A path of the file, the type that the model has there, and the model and field that brought us there."""

    path: Path
    type: Any
    owner: type[BaseModel] | None = None
    field: FieldInfo | None = None

    @classmethod
    def of(cls, model: type[BaseModel]) -> Place:
        """The root of a document of `model`."""
        return cls((), model)

    def walk(self, loc: tuple[int | str, ...]) -> Place:
        """The place that pydantic calls `loc`; the tags and labels of unions in it are no part of the path."""
        place = self
        for step in loc:
            place = place._step(step)
        return place

    def siblings(self) -> list[str]:
        """The names that the file may use beside this one."""
        return [] if self.owner is None else list(_fields(self.owner))

    def meaning(self) -> str:
        """The description of the field here, or an empty text."""
        return (self.field.description if self.field else None) or ""

    def tags(self, discriminator: str) -> list[str]:
        """The tags of the union here, which the field `discriminator` of its members tells apart."""
        return [tag for member in _members(_bare(self.type)) for tag in _tags(member).get(discriminator, [])]

    def _step(self, step: int | str) -> Place:
        here = _bare(self.type)
        members = _members(here)
        if len(members) > 1:
            return replace(self, type=_chosen(members, step))
        if isinstance(here, type) and issubclass(here, BaseModel):
            return Place((*self.path, step), _types(here).get(str(step), Any), here, _fields(here).get(str(step)))
        if step == "[key]":
            return self
        return Place((*self.path, step), _item(here, step))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of `model` under the names that a file uses."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _types(model: type[BaseModel]) -> dict[str, Any]:
    """The type of each field of `model`, under the names that a file uses."""
    try:
        # A model that contains itself keeps an unresolved reference in its fields, though pydantic resolved it.
        hints = get_type_hints(model, include_extras=True)
    except NameError:  # a model made inside a function
        hints = {}
    return {f.alias or name: hints.get(name, f.annotation) for name, f in model.model_fields.items()}


def _bare(tp: Any) -> Any:
    """`tp` without Annotated, without a `type` alias, and without the None of an Optional."""
    while True:
        if get_origin(tp) is Annotated:
            tp = get_args(tp)[0]
        elif hasattr(tp, "__value__"):
            tp = tp.__value__
        elif len(members := _members(tp)) == 1 and members[0] is not tp:
            tp = members[0]
        else:
            return tp


def _members(tp: Any) -> list[Any]:
    """The types that a union joins, None left out; the type itself where there is no union."""
    if get_origin(tp) is Annotated:
        return _members(get_args(tp)[0])
    if get_origin(tp) not in (Union, types.UnionType):
        return [tp]
    return [m for arg in get_args(tp) if arg is not type(None) for m in _members(arg)]


def _chosen(members: list[Any], step: int | str) -> Any:
    """The member of a union that pydantic means by `step`: a tag, or the name of its type."""
    shared = set.intersection(*(set(_tags(m)) for m in members))
    tagged = [m for m in members if any(step in _tags(m)[name] for name in shared)]
    return next(iter(tagged or [m for m in members if step == _label(m)]), Any)


def _tags(tp: Any) -> dict[str, list[str]]:
    """The words that each Literal field of the model `tp` allows: one of these fields is the discriminator."""
    tp = _bare(tp)
    if not (isinstance(tp, type) and issubclass(tp, BaseModel)):
        return {}
    literals = {name: _bare(field.annotation) for name, field in _fields(tp).items()}
    return {n: [str(a) for a in get_args(lit)] for n, lit in literals.items() if get_origin(lit) is Literal}


def _label(tp: Any) -> str:
    """What pydantic calls a member of a union that has no tags: the name of its type."""
    bare = _bare(tp)
    return str(getattr(get_origin(bare) or bare, "__name__", bare))


def _item(tp: Any, step: int | str) -> Any:
    """The type of the entry `step` of a list, a tuple or a mapping of type `tp`."""
    args = get_args(tp)
    origin = get_origin(tp)
    if not args:
        return Any
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return args[1]
    if origin is tuple and args[-1] is not Ellipsis:
        return args[int(step)] if isinstance(step, int) and step < len(args) else Any
    return args[0]
