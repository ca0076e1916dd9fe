"""Check types as the users of es_django see them: `python -m tests.public_types`.

Every public name must have a type that pyright knows, and the README's code must pass `mypy --strict` and pyright.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from testproject.settings import BASE_DIR, VAR_DIR
from tests.readme import README, write_project

FRAGMENT = re.compile(r"```python\n(orders\.get.*?)```", re.DOTALL)
FRAGMENT_START = """
from shop.aggregates import Order
from shop.events import OrderPaid
from shop.services import orders, pay

async def fragment(order: Order, other: Order, request_id: str) -> None:
"""
MYPY = """
[mypy]
strict = true
plugins = mypy_django_plugin.main
# django-stubs gives ModelAdmin a parameter that Django itself does not have
[mypy-shop.admin]
disable_error_code = type-arg
[mypy.plugins.django-stubs]
django_settings_module = settings
"""


def main() -> int:
    folder = VAR_DIR / "readme"
    write_project(folder)
    (fragment,) = FRAGMENT.findall(README.read_text())
    (folder / "shop" / "fragment.py").write_text(
        FRAGMENT_START + "".join(f"    {line}\n" for line in fragment.splitlines())
    )
    (folder / "mypy.ini").write_text(MYPY)
    apps = ["ledger", "shop", "printed_settings.py"]
    checks = [
        _is_complete(),
        _passes(folder, "mypy", "--cache-dir", str(BASE_DIR / ".mypy_cache" / "readme"), *apps),
        _passes(folder, "pyright", *apps),
    ]
    return 0 if all(checks) else 1


def _is_complete() -> bool:
    result = _run(BASE_DIR, "pyright", "--verifytypes", "es_django", "--ignoreexternal", "--outputjson")
    report = json.loads(result.stdout)["typeCompleteness"]
    print(f"Public types known to pyright: {report['completenessScore']:.1%}")
    for symbol in report["symbols"]:
        for found in symbol["diagnostics"]:
            if found["severity"] == "error":
                print(f"{symbol['name']}: {found['message']}")
    return bool(report["completenessScore"] == 1)


def _passes(folder: Path, tool: str, *arguments: str) -> bool:
    result = _run(folder, tool, *arguments)
    print(f"README's code, {tool}: {result.stdout.strip()}{result.stderr}")
    return result.returncode == 0


def _run(folder: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        # pyright asks the first `python` of PATH for the folders of packages. It does not see an editable install.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}:{BASE_DIR}",
        "MYPYPATH": f"{folder}:{BASE_DIR}",
    }
    command = [sys.executable, "-m", tool, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
