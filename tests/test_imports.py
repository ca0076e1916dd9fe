import pytest
from importlinter.cli import lint_imports


class TestImports:
    def test_import_contracts_hold(self, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(pytestconfig.rootpath)
        assert lint_imports(no_cache=True, no_logo=True) == 0
