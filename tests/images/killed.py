"""Prepare a store of three units; with an argument, hang in the middle of the second: to be killed there."""

import sys
import time
from pathlib import Path

from tests.images import screens

folder, hang = Path(sys.argv[1]), sys.argv[2] == "hang"


def reader(unit):
    for number, row in enumerate(screens.read_unit(unit)):
        if hang and unit.unit == "plate-2" and number == 7:
            print("hanging", flush=True)
            time.sleep(600)
        yield row


screens.make_store(folder, reader=reader)
