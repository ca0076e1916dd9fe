"""The options that a class takes from its nested class Meta."""

from typing import Any

from es_django.core.errors import DefinitionError


def meta_options(cls: type, allowed: set[str]) -> dict[str, Any]:
    """What the nested Meta sets, or its bases. Raises `DefinitionError` for an option that is not `allowed`."""
    meta = vars(cls).get("Meta")
    bases = reversed(meta.__mro__) if meta else ()
    options = {name: value for base in bases for name, value in vars(base).items() if not name.startswith("_")}
    if unknown := options.keys() - allowed:
        known = ", ".join(sorted(allowed))
        raise DefinitionError(f"{cls.__qualname__}.Meta: no option {', '.join(sorted(unknown))} (there is {known})")
    return options
