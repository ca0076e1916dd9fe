"""Types of model fields, for type checkers without Django's mypy plugin.

Each names the type that the field accepts, and then the type that the field returns.
"""

from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from django.db.models import Field
from django.db.models.expressions import Combinable

Text: TypeAlias = "Field[str | Combinable, str]"
OptionalText: TypeAlias = "Field[str | Combinable | None, str | None]"
Integer: TypeAlias = "Field[int | Combinable, int]"
OptionalInteger: TypeAlias = "Field[int | Combinable | None, int | None]"
Flag: TypeAlias = "Field[bool | Combinable, bool]"
Time: TypeAlias = "Field[datetime | str | Combinable, datetime]"
OptionalTime: TypeAlias = "Field[datetime | str | Combinable | None, datetime | None]"
Uuid: TypeAlias = "Field[UUID | str | Combinable, UUID]"
Json: TypeAlias = "Field[Any, Any]"
Identity: TypeAlias = "Field[int | Combinable | None, int]"
"""The primary key. It may be set to `None` until the database assigns it."""
