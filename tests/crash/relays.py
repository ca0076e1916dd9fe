"""Run `manage.py es_relay` in another process."""

import json
from pathlib import Path
from typing import Any

from tests.background import Background, environment_of_test_database


class RelayProcess(Background):
    """Relay with `es_django` as the setting ES_DJANGO, on the database of the running test or on `database_url`."""

    def __init__(
        self, es_django: dict[str, Any], folder: Path, *, interval: float = 0.05, database_url: str | None = None
    ) -> None:
        environment = environment_of_test_database()
        if database_url is not None:
            environment["DATABASE_URL"] = database_url
        environment |= {"DJANGO_SETTINGS_MODULE": "tests.crash.settings", "ES_DJANGO": json.dumps(es_django)}
        super().__init__(["manage.py", "es_relay", "--interval", str(interval)], environment, folder / "relay.log")
