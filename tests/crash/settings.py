"""The sample project's settings for a relay that a test starts, with the destinations of the test."""

import json
import os

from testproject.settings import *  # noqa: F403
from testproject.settings import ES_DJANGO as SAMPLE

ES_DJANGO = json.loads(os.environ["ES_DJANGO"])
ES_DJANGO["DESTINATIONS"] |= SAMPLE["DESTINATIONS"]
