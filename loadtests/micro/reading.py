"""Measures the reading of import files, in rows a second of one core: `python -m loadtests.micro.reading [--long]`.

It reads and checks without a database.  A well-formed MSISDN file must stay above 150,000 rows/s, so that 50,000 remain
when the rows are also stored.  With --long it reads ten million rows at once, and shows the peak memory.
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator

from loadtests.micro.identifiers import make_clabe
from oracle.identifiers import Reading
from oracle.imports.reading import Reader, RowChecks

ROWS = 200_000
ROWS_LONG = 10_000_000
ROUNDS = 3  # the best one counts: the others include other load of the machine
PIECE_BYTES = 64 * 1024  # like the pieces of an upload

READING = Reading()

HEADER = b"kind,identifier,sub_id,currency,country,action\n"


def measure_rate(header: bytes, lines: Callable[[int], bytes]) -> tuple[float, int]:
    """Return rows a second, and the number of refused rows."""
    data = header + b"".join(map(lines, range(ROWS)))
    best, refused = 0.0, 0
    for _ in range(ROUNDS):
        reader = Reader(RowChecks(READING))
        start = time.perf_counter()
        for at in range(0, len(data), PIECE_BYTES):
            reader.feed(data[at : at + PIECE_BYTES])
        reader.finish()
        best = max(best, reader.rows_read / (time.perf_counter() - start))
        refused = reader.rows_refused
    return best, refused


def make_long_file() -> Iterator[bytes]:
    yield HEADER
    for start in range(0, ROWS_LONG, 1_000):
        yield b"".join(b"MSISDN,5255%08d,,MXN,,add\n" % (at % 10**8) for at in range(start, start + 1_000))


def read_long() -> None:
    reader = Reader(RowChecks(READING))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    for data in make_long_file():
        reader.feed(data)
    reader.finish()
    took_s = time.perf_counter() - start
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{reader.rows_read:,} rows in {took_s:.0f} s, written and read ({reader.rows_read / took_s:,.0f} rows/s)")
    print(f"peak memory {peak_kib / 1024:.0f} MiB, {(peak_kib - before_kib) / 1024:.0f} MiB more than before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="read ten million rows, and show the memory")
    asked = parser.parse_args()
    READING.preload()
    if asked.long:
        read_long()
        return
    source = random.Random(20261)
    clabes = [make_clabe(source).encode() for _ in range(20_000)]
    cases: list[tuple[str, bytes, Callable[[int], bytes]]] = [
        ("MSISDN", HEADER, lambda at: b"MSISDN,5255%08d,,MXN,,add\n" % at),
        ("MSISDN, two columns, CRLF", b"kind,identifier\r\n", lambda at: b"MSISDN,+9592%08d\r\n" % (50_000_000 + at)),
        ("MSISDN, quoted", b'"kind";"identifier"\n', lambda at: b'"MSISDN";"5255%08d"\n' % at),
        ("MSISDN, NDJSON", b"", lambda at: b'{"kind":"MSISDN","identifier":"5255%08d"}\n' % at),
        ("CLABE", HEADER, lambda at: b"CLABE,%s,,MXN,,\n" % clabes[at % len(clabes)]),
        ("NRC, Latin", HEADER, lambda at: b"NRC,12/OUKAMA(N)%06d,,,,\n" % at),
        ("ACCOUNT_ID, each with a SubId", HEADER, lambda at: b"ACCOUNT_ID,%09d,s%d,,,\n" % (at, at)),
        (
            "MSISDN, one in a hundred bad",
            HEADER,
            lambda at: b"MSISDN,%s%08d,,,,\n" % (b"5255" if at % 100 else b"0", at),
        ),
        ("all bad", HEADER, lambda at: b"MSISDN,0%08d,,,,\n" % at),
        ("MSISDN, spaces", HEADER, lambda at: b"MSISDN,+52 55 1234 %04d,,,,\n" % (at % 10**4)),
        ("MSISDN, national", HEADER, lambda at: b"MSISDN,55%08d,,,MX,\n" % (12_000_000 + at)),
        ("quotes that never close", HEADER, lambda at: b'ALIAS,"a%d,,,,\n' % at),
    ]
    print(f"{'':34}{'rows/s':>9}{'refused':>10}   (Python {sys.version.split()[0]}, {ROWS:,} rows)")
    for name, header, lines in cases:
        rate, refused = measure_rate(header, lines)
        print(f"{name:34}{rate:9,.0f}{refused:10,}")


if __name__ == "__main__":
    main()
