"""A handler that kills its worker, and one that does nothing."""

import os

from es_django import Message, handles
from tests.processes import die


@handles("tests.deadly", consumer="deadly")
def kill_the_worker(message: Message) -> None:
    with open(os.environ["TEST_DEATHS"], "a") as deaths:
        deaths.write("x")
    die()


@handles("tests.harmless", consumer="harmless")
def do_nothing(message: Message) -> None:
    pass
