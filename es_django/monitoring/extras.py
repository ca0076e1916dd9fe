"""Connect the optional libraries for metrics and traces, if they can be imported.

That a folder of a library's name is there proves nothing: `opentelemetry` is shared by many packages, and an old
release may lack a name. So each module is imported with all that it uses, or not at all.
"""

from importlib import import_module

MODULES: dict[str, str] = {
    "prometheus_client": "es_django.monitoring.metrics",
    "opentelemetry": "es_django.monitoring.tracing",
}
"""For each optional library, the module that uses it."""

unusable: dict[str, Exception] = {}
"""For each library that is installed but cannot be used, the error of its import."""


def connect() -> None:
    """Import each module whose library is installed. Keep the error of a library that cannot be used."""
    for library, module in MODULES.items():
        try:
            import_module(module)
        except Exception as error:  # a broken library must not stop the project
            if not _is_absent(library, error):
                unusable[library] = error


def _is_absent(library: str, error: Exception) -> bool:
    """Return whether the library is not installed, or only as a namespace of other packages."""
    if isinstance(error, ModuleNotFoundError):
        return error.name is not None and error.name.partition(".")[0] == library
    return isinstance(error, ImportError) and error.name == library and error.path is None
