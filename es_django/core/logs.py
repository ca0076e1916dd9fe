"""The loggers of es_django, which no logging configuration can silence by accident."""

import logging
from collections.abc import MutableMapping
from typing import Any


class Log(logging.LoggerAdapter[logging.Logger]):
    """Writes the records of one logger, even after a logging configuration has disabled that logger.

    `logging.config` disables every logger that exists and is not in the configuration, unless
    `disable_existing_loggers` is False. A Celery worker often applies such a configuration after the apps are loaded.
    Then nobody would hear of a dead message. So each record enables its logger again. To hear less, set a level for the
    logger `es_django`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def isEnabledFor(self, level: int) -> bool:
        self.logger.disabled = False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs
