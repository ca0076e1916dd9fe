"""The sample apps use only public names of es_django."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from django.conf import settings

import es_django

APPS = settings.BASE_DIR / "testproject"
FILES = sorted([*APPS.glob("bank/**/*.py"), *APPS.glob("helpdesk/**/*.py")])

PUBLIC_MODULES = {"es_django.admin", "es_django.errors", "es_django.metadata", "es_django.outbox", "es_django.testing"}
# Models are public too: the tables of the outbox and the projections have no other interface for monitoring.
MODELS, WATCHES = "es_django.models", "bank/demo/"


def names_of_the_library(source: str) -> Iterator[tuple[str, str]]:
    """Return the module and the name of each import from es_django, also within a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "es_django":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "es_django")


def is_public(module: str, name: str) -> bool:
    if module == "es_django":
        return name in ("", *es_django.__all__)
    if module not in PUBLIC_MODULES or not name:
        return module in PUBLIC_MODULES
    # A submodule is not a public name, although it becomes an attribute of its package when it is imported.
    known = vars(import_module(module))
    return name in known and not isinstance(known[name], ModuleType)


class TestSampleProject:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(APPS)))
    def test_apps_use_only_public_names(self, path: Path) -> None:
        watches = str(path.relative_to(APPS)).startswith(WATCHES)
        private = [
            f"{module}.{name}"
            for module, name in names_of_the_library(path.read_text())
            if not is_public(module, name) and not (module == MODELS and watches)
        ]
        assert private == []

    @pytest.mark.parametrize(
        "source",
        [
            "from es_django.store.backends import store_for",
            "from es_django import store",
            "import es_django.repository",
            "from es_django.outbox import relay",
            "def late():\n    from es_django.outbox.relay import relay",
        ],
    )
    def test_imports_of_private_names_are_found(self, source: str) -> None:
        assert not all(is_public(*used) for used in names_of_the_library(source))
