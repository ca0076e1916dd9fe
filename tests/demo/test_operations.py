import pytest

from testproject.bank.demo.operations import Customers
from testproject.bank.models import Balance

pytestmark = pytest.mark.django_db(transaction=True)


def business(seed: int) -> Customers:
    customers = Customers(accounts=4, seed=seed)
    for _ in customers.open_accounts():
        pass
    for _ in customers.operate(60):
        pass
    return customers


class TestOperations:
    def test_done_and_refused_operations_add_up_to_all(self) -> None:
        done = business(seed=1).done
        assert done.total() == 4 + 60
        assert set(done) == {"opened", "deposits", "withdrawals", "transfers", "refused"}

    def test_same_seed_gives_the_same_operations(self) -> None:
        first, again = business(seed=7).done, business(seed=7).done
        assert first == again
        money = list(Balance.objects.order_by("account").values_list("owner", "balance"))
        assert len(money) == 8
        assert money[:4] == money[4:]

    def test_another_seed_gives_other_operations(self) -> None:
        business(seed=1)
        business(seed=2)
        money = list(Balance.objects.order_by("account").values_list("owner", "balance"))
        assert money[:4] != money[4:]
