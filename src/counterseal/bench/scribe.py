"""One of several processes that write one ledger: prints entries, wall and CPU seconds.

python -m counterseal.bench.scribe HOME LEDGER SECONDS     begins when it reads a line
"""

from __future__ import annotations

import sys
import time
from typing import Final

from counterseal.bench.ledger import a_record
from counterseal.bench.processes import PASSPHRASE
from counterseal.jobs.ledger import open_ledger
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity

__all__ = ["main"]

BATCH: Final = 16


def main(where: str, name: str, seconds: float) -> None:
    home = Home(where)
    us = Identity.load("lab", home=home, passphrase=PASSPHRASE)
    records, count = [a_record()] * BATCH, 0
    with open_ledger(name, by=us, home=home) as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        wall, cpu = time.perf_counter(), time.process_time()
        while (took := time.perf_counter() - wall) < seconds:
            ledger.record_all(records)
            count += BATCH
        print(count, took, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
