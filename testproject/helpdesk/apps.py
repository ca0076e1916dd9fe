from django.apps import AppConfig


class HelpdeskConfig(AppConfig):
    name = "testproject.helpdesk"
    verbose_name = "Help desk"
