from django.apps import AppConfig


class BankConfig(AppConfig):
    name = "testproject.bank"
    verbose_name = "Bank"
