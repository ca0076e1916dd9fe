from django.db import models


class Balance(models.Model):
    """The current balance of an account, written by the projection `Balances`."""

    account = models.CharField(max_length=255, primary_key=True)
    owner = models.CharField(max_length=255)
    balance = models.DecimalField(max_digits=14, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.account}: {self.balance}"


class StatementLine(models.Model):
    """An event of an account and the balance after it, written by the projection `Statements`."""

    position = models.BigIntegerField(primary_key=True)
    account = models.CharField(max_length=255)
    version = models.BigIntegerField()
    type = models.CharField(max_length=255)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    balance = models.DecimalField(max_digits=14, decimal_places=2)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "version"], name="bank_statement_version")]

    def __str__(self) -> str:
        return f"{self.account}, {self.version}: {self.amount}"


class LedgerEntry(models.Model):
    """A message that the ledger handled. The ledger owns this record; the bank does not know it.

    The ledger could be another system. The model is in this app only to keep the sample in one project.
    """

    message_id = models.UUIDField(unique=True)
    account = models.CharField(max_length=255)
    amount = models.DecimalField(max_digits=14, decimal_places=2)

    class Meta:
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.account}: {self.amount}"
