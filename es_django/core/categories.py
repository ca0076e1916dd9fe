"""The registry of stream categories: which class has which category."""

from typing import Generic, TypeVar

from es_django.core.errors import DefinitionError

T = TypeVar("T")


class CategoryRegistry(Generic[T]):
    """All aggregate classes by category.

    If two classes claim one category, each would load the other's events. So the system check reports the conflict, and
    using the category raises `DefinitionError`.
    """

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, type[T]]] = {}

    def register(self, category: str, cls: type[T]) -> None:
        # The path is the key, so that a module that is imported again replaces its own classes.
        self._claims.setdefault(category, {})[f"{cls.__module__}.{cls.__qualname__}"] = cls

    def aggregate_of(self, category: str) -> type[T] | None:
        """Return the class of a category, or None if no class or several classes claim it."""
        claims = list(self._claims.get(category, {}).values())
        return claims[0] if len(claims) == 1 else None

    def conflicts(self) -> dict[str, list[str]]:
        """Return each category that several classes claim, with the paths of those classes."""
        return {category: sorted(claims) for category, claims in self._claims.items() if len(claims) > 1}

    def require_unique(self, category: str) -> None:
        """Raise `DefinitionError` if several classes claim the category."""
        if len(claims := self._claims.get(category, ())) > 1:
            raise DefinitionError(
                f"{' and '.join(sorted(claims))} both have the category {category!r}: "
                "give one of them another Meta.category"
            )
