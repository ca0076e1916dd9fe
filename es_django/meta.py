"""The options that a class takes from its nested class Meta."""

from typing import Any

from es_django.errors import ImproperlyConfigured


def meta_options(cls: type, allowed: set[str]) -> dict[str, Any]:
    """What the nested class Meta sets. Raises `ImproperlyConfigured` for an option that is not `allowed`."""
    meta = vars(cls).get("Meta")
    options = {name: value for name, value in vars(meta).items() if not name.startswith("_")} if meta else {}
    if unknown := options.keys() - allowed:
        known = ", ".join(sorted(allowed))
        raise ImproperlyConfigured(
            f"{cls.__qualname__}.Meta: no option {', '.join(sorted(unknown))} (there is {known})"
        )
    return options
