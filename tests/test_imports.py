import pytest
from importlinter.cli import lint_imports


def test_no_module_imports_what_is_above_it(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pytestconfig.rootpath)
    assert lint_imports(no_cache=True, no_logo=True) == 0
