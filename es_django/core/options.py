"""The options of a nested `class Meta`."""

from typing import Any

from es_django.core.errors import DefinitionError


def meta_options(cls: type, allowed: set[str]) -> dict[str, Any]:
    """Return the options that the nested Meta and its bases set.

    Raise `DefinitionError` if an option is not in `allowed`.
    """
    meta = vars(cls).get("Meta")
    bases = reversed(meta.__mro__) if meta else ()
    options = {name: value for base in bases for name, value in vars(base).items() if not name.startswith("_")}
    if unknown := options.keys() - allowed:
        known = ", ".join(sorted(allowed))
        raise DefinitionError(f"{cls.__qualname__}.Meta: unknown option {', '.join(sorted(unknown))} (known: {known})")
    return options
