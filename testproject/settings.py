"""Settings of the sample project, read from DATABASE_URL, CELERY_BROKER_URL, VAR_DIR, DEBUG, SECRET_KEY and
ALLOWED_HOSTS.

Without them the project runs on SQLite and uses a folder as its message broker, both under var/.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote
from zlib import crc32

import environ
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

import es_django

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(exist_ok=True)

DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="for development only") if DEBUG else env.str("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "es_django",
    "testproject.bank",
    "testproject.helpdesk",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "es_django.middleware.metadata_middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "testproject.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Quote the path, because "+", "%" and "#" in the name of the project's folder have a meaning in a URL.
DATABASE_URL = env.str("DATABASE_URL", default=f"sqlite:///{quote(str(VAR_DIR / 'db.sqlite3'))}")
DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(DATABASE_URL)}
for database in DATABASES.values():
    # Keep connections open. A worker that connects for each task spends most of its time on connecting.
    database["CONN_MAX_AGE"] = 60
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        }
        # Test on a file, because threads and processes cannot share an in-memory database.
        file = Path(database["NAME"])
        database["TEST"] = {"NAME": str(file.with_name(f"test_{file.name}"))}

# Tasks refer to rows of one database, so each database has its own queues and schedule.
RUN_DIR = VAR_DIR / f"run-{crc32(DATABASE_URL.encode()):08x}"
RUN_DIR.mkdir(exist_ok=True)
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="filesystem://localhost")
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {}
if CELERY_BROKER_URL.startswith("filesystem:"):
    TRANSPORT_ALIASES["filesystem"] = "testproject.filesystem_broker:Transport"
    queues, exchanges = RUN_DIR / "queues", RUN_DIR / "exchanges"
    for folder in (queues, exchanges):
        folder.mkdir(exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(queues),
        "data_folder_out": str(queues),
        "control_folder": str(exchanges),
    }
elif CELERY_BROKER_URL.startswith(("amqp:", "amqps:", "pyamqp:")):
    # Without confirms RabbitMQ may drop a message silently.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
# Messages have their own queue, so that they never delay the relay and the projections.
HANDLERS_QUEUE = "handlers"
CELERY_TASK_QUEUES = [Queue("celery"), Queue(HANDLERS_QUEUE)]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {**es_django.beat_schedule()}
CELERY_BEAT_SCHEDULE_FILENAME = str(RUN_DIR / "celerybeat-schedule")

ES_DJANGO: dict[str, Any] = {
    "DESTINATIONS": {
        name: {
            "PUBLISHER": "es_django.outbox.publishers.celery.CeleryPublisher",
            "OPTIONS": {"queue": HANDLERS_QUEUE},
        }
        for name in ("ledger", "customers")
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"es_django": {"level": "INFO"}, "testproject": {"level": "INFO"}},
}
