"""Whether a value of a type can be changed, so that each consumer of an event needs a copy of its own."""

from typing import Any, get_origin

import msgspec
from msgspec import inspect

_CONSTANT = (
    *(inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType, inspect.BytesType),
    *(inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType, inspect.UUIDType),
    *(inspect.DecimalType, inspect.EnumType, inspect.LiteralType),
)


def is_mutable(type: Any) -> bool:
    """Return whether a value of the type, or a part of it at any depth, can be changed."""
    return _is_mutable(inspect.type_info(type), set())


def _is_mutable(info: inspect.Type, seen: set[int]) -> bool:
    if id(info) in seen or isinstance(info, _CONSTANT):
        return False
    seen.add(id(info))
    if isinstance(info, inspect.Metadata):
        return _is_mutable(info.type, seen)
    if isinstance(info, inspect.UnionType):
        return any(_is_mutable(each, seen) for each in info.types)
    if isinstance(info, inspect.VarTupleType | inspect.FrozenSetType):
        return _is_mutable(info.item_type, seen)
    if isinstance(info, inspect.TupleType):
        return any(_is_mutable(each, seen) for each in info.item_types)
    if isinstance(info, inspect.StructType | inspect.DataclassType | inspect.NamedTupleType):
        return not _is_frozen(info) or any(_is_mutable(field.type, seen) for field in info.fields)
    return True


def _is_frozen(info: inspect.StructType | inspect.DataclassType | inspect.NamedTupleType) -> bool:
    cls: Any = get_origin(info.cls) or info.cls
    if issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    # A class of attrs has no such attribute. It is copied.
    return issubclass(cls, tuple) or bool(getattr(getattr(cls, "__dataclass_params__", None), "frozen", False))
