"""Import the public names of a package on first use.

The stub `__init__.pyi` of the package lists each name once. Type checkers and this module read the stub.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def public_names(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for the package whose `__init__.py` is `file`.

    `__getattr__` imports the module of a name on first use, so that the package is cheap to import and `INSTALLED_APPS`
    can load it before the app registry is ready.
    """
    # The loader reads the stub from a zip file, too.
    loader: Any = getattr(sys.modules[package].__spec__, "loader", None)
    stub = ast.parse(loader.get_data(str(Path(file).with_suffix(".pyi"))))
    modules = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    def find(name: str) -> object:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module == package:  # a package in the package
            return import_module(f"{package}.{name}")
        found = getattr(import_module(module), name)
        setattr(sys.modules[package], name, found)
        return found

    return find, lambda: sorted({*vars(sys.modules[package]), *modules}), sorted(modules)
