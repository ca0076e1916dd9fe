import pytest
from django.test import Client

from es_django.projections.runner import run_projection
from testproject.bank.services import open_account

pytestmark = pytest.mark.django_db(transaction=True)


class TestReadModels:
    @pytest.mark.parametrize("model", ["balance", "statementline", "ledgerentry"])
    def test_read_models_are_read_only(self, model: str, admin_client: Client) -> None:
        open_account("ada", owner="Ada")
        run_projection("statements")
        assert admin_client.get(f"/admin/bank/{model}/").status_code == 200
        assert admin_client.get(f"/admin/bank/{model}/add/").status_code == 403

    def test_history_of_a_balance_shows_the_account_events(self, admin_client: Client) -> None:
        open_account("ada", owner="Ada")
        html = admin_client.get("/admin/bank/balance/ada/history/").content.decode()
        assert "bank.account_opened" in html
