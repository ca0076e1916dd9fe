"""Measure es_django beside a floor (the least work that the database can do) and beside other packages.

    python -m benchmarks [--quick] [PART ...]

It needs PostgreSQL in DATABASE_URL, where it creates and drops databases, and RabbitMQ in AMQP_URL. Work and floor take
turns in one run, and the result is the ratio of their medians; absolute rates depend on the machine. The exit code is
1 if a ratio is below its target, and always 0 in quick mode.
"""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
# Wake-ups of the relay are sent to a broker in memory, where no worker reads them.
os.environ["CELERY_BROKER_URL"] = "memory://localhost"
django.setup()

from django.conf import settings  # noqa: E402
from django.test.utils import override_settings  # noqa: E402

from benchmarks import appends, loads, outbox, projections, scale, startup  # noqa: E402
from benchmarks.measure import FULL, QUICK, fresh_database  # noqa: E402
from benchmarks.peers import compare as peers  # noqa: E402
from benchmarks.report import Report  # noqa: E402
from benchmarks.subject import create_tables  # noqa: E402
from es_django.core.instrumentation import listeners  # noqa: E402
from es_django.core.metadata import sources  # noqa: E402

PARTS = {
    "startup": startup.measure,
    "appends": appends.measure,
    "loads": loads.measure,
    "outbox": outbox.measure,
    "projections": projections.measure,
    "scale": scale.measure,
    "peers": peers.measure,
}
DESTINATIONS = {"nowhere": {"PUBLISHER": "benchmarks.subject.Nowhere"}}


def main() -> int:
    parser = ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="measure a little, to test the benchmarks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all parts if omitted")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    parts = options.parts or list(PARTS)
    if {"outbox", "peers"} & set(parts):
        outbox.require_broker()
    effort = QUICK if options.quick else FULL
    report = Report(effort)
    # Measure as in production. With DEBUG, Django keeps every statement. Metrics and traces are optional extras.
    listeners.clear()
    sources.clear()
    with override_settings(DEBUG=False, ES_DJANGO={**settings.ES_DJANGO, "DESTINATIONS": DESTINATIONS}):
        for part in parts:
            with fresh_database():
                create_tables()
                for figure in PARTS[part](effort):
                    report.add(figure)
    report.finish()
    return int(not options.quick and not report.holds)


if __name__ == "__main__":
    sys.exit(main())
