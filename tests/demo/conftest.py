import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection


@pytest.fixture
def environment(transactional_db: None, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a demo: an empty database of the same vendor as this run, and a separate broker."""
    environment = {**os.environ, "VAR_DIR": str(tmp_path / "var")}
    for name in ("CELERY_BROKER_URL", "CELERY_TASK_DEFAULT_QUEUE", "DEBUG"):
        environment.pop(name, None)
    if connection.vendor == "sqlite":
        yield {**environment, "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
        return
    name = f"demo_{uuid4().hex}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield {**environment, "DATABASE_URL": urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()}
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
