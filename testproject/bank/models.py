from django.db import models


class Balance(models.Model):
    """What is in an account now. Written by the projection `Balances`."""

    account = models.CharField(max_length=255, primary_key=True)
    owner = models.CharField(max_length=255)
    balance = models.DecimalField(max_digits=14, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.account}: {self.balance}"


class StatementLine(models.Model):
    """One event of an account, and the balance after it. Written by the projection `Statements`."""

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
    """One message that the ledger has received: the ledger's own record, and none of the bank's business.

    It stands here so that the sample is one project; it could as well be another system.
    """

    message_id = models.UUIDField(unique=True)
    account = models.CharField(max_length=255)
    amount = models.DecimalField(max_digits=14, decimal_places=2)

    class Meta:
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.account}: {self.amount}"
