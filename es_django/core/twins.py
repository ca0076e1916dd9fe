"""The twin of a type: a type that decodes a JSON text only if the text has exactly the keys of the original.

A twin has the same keys as the original, no defaults, and forbids unknown fields at any depth. It leaves all other
values as raw JSON, so decoding the twin costs less than decoding the original. A twin may reject a text that fits, and
a type may have no twin: both cost only the time of the check that names the difference.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from typing import Any, TypeAlias, Union, get_origin

import msgspec
from msgspec import inspect

Object: TypeAlias = inspect.StructType | inspect.DataclassType | inspect.TypedDictType

ITEM_TYPES = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.CollectionType)
OBJECT_TYPES = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
_WITHOUT_TWIN = (inspect.AnyType, inspect.RawType, inspect.CustomType)


def twin_decoder(info: inspect.Type, is_checked: Callable[[inspect.Type], bool]) -> msgspec.json.Decoder[Any] | None:
    """Return the decoder of the twin of a type, or None if the type is too unusual to have a twin.

    `is_checked` says whether stored JSON that msgspec decodes as a part of the type can still have other keys. The
    decoder proves the keys only of a text that the original can decode too.
    """
    try:
        return msgspec.json.Decoder(_Twins(is_checked).of(info))
    except (TypeError, ValueError):
        return None


class _Twins:
    """The twins of the parts of one type."""

    def __init__(self, is_checked: Callable[[inspect.Type], bool]) -> None:
        self._is_checked = is_checked
        self._by_id: dict[int, str | type] = {}

    def of(self, info: inspect.Type) -> Any:
        twin = self._of(info)
        for index, named in enumerate(self._by_id.values()):
            for other in self._by_id.values():
                setattr(other, f"Twin{index}", named)  # msgspec looks a name up among the attributes of the class
        return twin

    def _of(self, info: inspect.Type) -> Any:
        if isinstance(info, inspect.Metadata):
            return self._of(info.type)
        if not self._is_checked(info):
            return msgspec.Raw
        if isinstance(info, inspect.UnionType):
            # A union with Raw is not allowed. The original has checked the scalars, so any scalar will do here.
            members = [each.type if isinstance(each, inspect.Metadata) else each for each in info.types]
            return Union[(None, bool, int, float, str, *filter(None, map(self._container, members)))]
        return self._container(info)

    def _container(self, info: inspect.Type) -> Any:
        """Return the twin of an object or array, or None for a scalar."""
        if isinstance(info, (inspect.NamedTupleType, *OBJECT_TYPES)):
            return self._struct(info)
        if isinstance(info, inspect.DictType):
            return dict[str, self._of(info.value_type)]  # type: ignore[misc]
        if isinstance(info, ITEM_TYPES):
            return list[self._of(info.item_type)]  # type: ignore[misc]
        if isinstance(info, inspect.TupleType):
            return tuple[tuple(map(self._of, info.item_types))]  # type: ignore[misc]
        if isinstance(info, _WITHOUT_TWIN):
            raise TypeError(f"{info} can be any JSON")
        return None

    def _struct(self, info: Object | inspect.NamedTupleType) -> str | type:
        if id(info) not in self._by_id:
            # A recursive type refers to itself by this name until its twin exists.
            self._by_id[id(info)] = f"Twin{len(self._by_id)}"
            is_array = isinstance(info, inspect.NamedTupleType) or getattr(info, "array_like", False)
            needed = {field.name for field in info.fields if is_array or field.required}
            if not isinstance(info, inspect.NamedTupleType):
                needed |= {field.name for field in always_written(info)}
            fields: list[Any] = []
            for index, field in enumerate(info.fields):
                default = () if field.name in needed else (msgspec.UNSET,)
                fields.append((f"field{index}", self._of(field.type), *default))
            self._by_id[id(info)] = msgspec.defstruct(
                "Twin",
                fields,
                rename={f"field{index}": field.encode_name for index, field in enumerate(info.fields)},
                tag_field=getattr(info, "tag_field", None),
                tag=getattr(info, "tag", None),
                array_like=is_array,
                kw_only=not is_array,
                forbid_unknown_fields=True,
                gc=False,
            )
        return self._by_id[id(info)]


def always_written(info: Object) -> Iterator[inspect.Field]:
    """Yield the fields that are always written, and that a default would replace if they were missing."""
    if isinstance(info, inspect.TypedDictType):
        return
    cls: Any = get_origin(info.cls) or info.cls
    if isinstance(info, inspect.StructType) and cls.__struct_config__.omit_defaults:
        return
    # A dataclass sets a field with init=False by itself, and msgspec writes the field only if the instance has it.
    not_given = {each.name for each in dataclass_fields(cls) if not each.init} if is_dataclass(cls) else set()
    for field in info.fields:
        # A field whose default is UNSET has no default here. It is written only if it is set.
        has_default = field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
        if has_default and field.name not in not_given:
            yield field
