"""The registry that maps each stream category to its class."""

from typing import Generic, TypeVar

from es_django.core.errors import DefinitionError

T = TypeVar("T")


class CategoryRegistry(Generic[T]):
    """All aggregate classes by category.

    Two classes with the same category would load each other's events. The system check reports such a conflict, and any
    use of the category raises `DefinitionError`.
    """

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, type[T]]] = {}

    def register(self, category: str, cls: type[T]) -> None:
        # The key is the class path, so that importing a module again replaces the classes of that module.
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
