"""Find foreign keys that prevent a rebuild from emptying a projection's models."""

from collections.abc import Iterator, Sequence

from django.db import models
from django.db.models.fields.reverse_related import ForeignObjectRel

_BLOCKING = (models.CASCADE, models.PROTECT, models.RESTRICT, getattr(models, "DB_CASCADE", models.CASCADE))


def blocking_foreign_keys(owned: Sequence[type[models.Model]]) -> list[str]:
    """Return the foreign keys that point from other models to the `owned` models with CASCADE, PROTECT or RESTRICT.

    Emptying the owned models would delete rows of the other models (CASCADE), or fail (PROTECT, RESTRICT).
    """
    return sorted({str(relation.field) for model in owned for relation in _relations(model, owned)})


def _relations(model: type[models.Model], owned: Sequence[type[models.Model]]) -> Iterator[ForeignObjectRel]:
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel) and getattr(relation, "on_delete", None) in _BLOCKING:
            source = relation.related_model._meta
            # The rows of a many-to-many table belong to the model that declares the ManyToManyField.
            owner = source.auto_created or source.concrete_model
            if owner not in [each._meta.concrete_model for each in owned]:
                yield relation
