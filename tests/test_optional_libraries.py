"""An optional library counts as installed only if all that es_django uses of it can be imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from importlib.machinery import ModuleSpec, PathFinder

library, folder, is_namespace = sys.argv[1], sys.argv[2], sys.argv[3] == "namespace"


class Substitute:
    def find_spec(self, name, path=None, target=None):
        if name != library:
            return None
        if not is_namespace and library != "opentelemetry":
            return PathFinder.find_spec(name, [folder])
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder if is_namespace else f"{folder}/{library}"]
        return spec


sys.meta_path.insert(0, Substitute())

import django

django.setup()

from django.core.checks import run_checks
from django.test import override_settings

destinations = {
    "hook": {"PUBLISHER": "es_django.outbox.publishers.webhook.WebhookPublisher",
             "OPTIONS": {"url": "https://example.org/", "secret": "whsec_" + "A" * 40}},
    "nats": {"PUBLISHER": "es_django.outbox.publishers.nats.NatsPublisher",
             "OPTIONS": {"url": "nats://127.0.0.1:4222"}},
    "redis": {"PUBLISHER": "es_django.outbox.publishers.redis.RedisPublisher",
              "OPTIONS": {"url": "redis://127.0.0.1:6379/0", "queue": "events"}},
}
with override_settings(ES_DJANGO={"DESTINATIONS": destinations}):
    for message in run_checks():
        if message.id in ("es_django.W014", "es_django.E005"):
            print(message.id, message.msg)
print("checked")
"""

OF_MONITORING = ["prometheus_client", "opentelemetry"]
OF_PUBLISHERS = ["httpcore", "nats", "redis"]
CONTENTS = {
    "old": "",
    "broken": "raise ImportError('libssl.so.1.1: cannot open shared object file')",
    "crashing": "raise RuntimeError('incompatible')",
}


def checked(library: str, kind: str, folder: Path) -> str:
    """Return what a project prints that sees this kind of substitute instead of the library."""
    if kind != "namespace":
        package = folder / library / ("trace" if library == "opentelemetry" else "")
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(CONTENTS[kind])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, library, str(folder), kind],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "testproject.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("checked\n")
    return done.stdout.removesuffix("checked\n")


@pytest.mark.parametrize("library", OF_MONITORING)
class TestLibrariesOfMonitoring:
    def test_fault_f5_a_namespace_of_other_packages_is_no_library(self, library: str, tmp_path: Path) -> None:
        assert checked(library, "namespace", tmp_path) == ""

    @pytest.mark.parametrize("kind", CONTENTS)
    def test_fault_f5_a_library_that_cannot_be_used_is_a_warning(self, library: str, kind: str, tmp_path: Path) -> None:
        assert checked(library, kind, tmp_path).startswith(f"es_django.W014 {library} is installed")


@pytest.mark.parametrize("kind", ["namespace", *CONTENTS])
@pytest.mark.parametrize("library", OF_PUBLISHERS)
class TestLibrariesOfPublishers:
    def test_fault_f5_a_publisher_without_its_library_is_an_error_that_names_the_library(
        self, library: str, kind: str, tmp_path: Path
    ) -> None:
        assert checked(library, kind, tmp_path).startswith("es_django.E005")
