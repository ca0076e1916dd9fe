"""Write the README's code as the files of a project."""

import re
from pathlib import Path

from testproject.settings import BASE_DIR

README = BASE_DIR / "README.md"
CODE = re.compile(r"```python\n# ([\w/]+\.py)[^\n]*\n(.*?)```", re.DOTALL)

SETTINGS = """
SECRET_KEY = "readme"
INSTALLED_APPS = ["django.contrib.contenttypes", "es_django", "shop", "ledger"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
ES_DJANGO = {
    "DESTINATIONS": {
        "ledger": {"PUBLISHER": "es_django.outbox.publishers.celery.CeleryPublisher"},
        "mail": {"PUBLISHER": "shop.publishers.MailPublisher", "OPTIONS": {"to": "ada@example.com"}},
    },
    "INGRESS": {"SECRETS": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]},
}
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "shop.urls"
"""

MODELS = {
    "shop": "class Due(models.Model):\n    order = models.TextField()\n    amount = models.IntegerField()\n",
    "ledger": "class Entry(models.Model):\n    order = models.TextField()\n    amount = models.IntegerField()\n\n\n"
    "class Turnover(models.Model):\n    amount = models.IntegerField()\n",
}


def write_project(folder: Path) -> dict[str, str]:
    """Write the README's code into `folder`, with the settings and models that it needs; return its files by name."""
    files: dict[str, str] = dict(CODE.findall(README.read_text()))
    for app, models in MODELS.items():
        (folder / app).mkdir(parents=True, exist_ok=True)
        (folder / app / "__init__.py").touch()
        (folder / app / "models.py").write_text(f"from django.db import models\n\n{models}")
    for name, code in files.items():
        (folder / name).write_text(code)
    (folder / "settings.py").rename(folder / "printed_settings.py")
    (folder / "settings.py").write_text(SETTINGS)
    return files
