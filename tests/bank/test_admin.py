import pytest
from django.test import Client

from es_django.projections.runner import run_projection
from testproject.bank.services import open_account

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("model", ["balance", "statementline", "ledgerentry"])
def test_read_models_are_shown_and_cannot_be_edited(model: str, admin_client: Client) -> None:
    open_account("ada", owner="Ada")
    run_projection("statements")
    assert admin_client.get(f"/admin/bank/{model}/").status_code == 200
    assert admin_client.get(f"/admin/bank/{model}/add/").status_code == 403


def test_the_history_of_a_balance_is_the_events_of_its_account(admin_client: Client) -> None:
    open_account("ada", owner="Ada")
    html = admin_client.get("/admin/bank/balance/ada/history/").content.decode()
    assert "bank.account_opened" in html
