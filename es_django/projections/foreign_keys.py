"""Rows that are not a projection's, and that emptying its models would delete, or that would forbid it."""

from collections.abc import Iterator, Sequence

from django.db import models
from django.db.models.fields.reverse_related import ForeignObjectRel

_BLOCKING = (models.CASCADE, models.PROTECT, models.RESTRICT, getattr(models, "DB_CASCADE", models.CASCADE))


def blocking_foreign_keys(owned: Sequence[type[models.Model]]) -> list[str]:
    """The fields of models that are not `owned` which point into them and cascade, protect or restrict."""
    return sorted({str(relation.field) for model in owned for relation in _relations(model, owned)})


def _relations(model: type[models.Model], owned: Sequence[type[models.Model]]) -> Iterator[ForeignObjectRel]:
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and getattr(relation, "on_delete", None) in _BLOCKING:
            source = relation.related_model._meta
            # The rows between two models belong to the one that has the ManyToManyField.
            owner = source.auto_created or source.concrete_model
            if owner not in [each._meta.concrete_model for each in owned]:
                yield relation
