"""Makes the files that people fill in from the samples of every kind: `python -m oracle.imports.templates FORMAT`.

They are published as schemas/templates/import.csv and import.ndjson; a test compares both with what is made here.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator

from oracle.identifiers import SCHEMES
from oracle.imports.rows import COLUMNS


def list_rows() -> Iterator[dict[str, str]]:
    """Yield every sample, by the columns of an import file; '' for columns that a sample does not use."""
    for scheme in SCHEMES:
        for sample in scheme.samples:
            row = {"kind": scheme.kind, **sample._asdict()}
            yield {column: row[column] for column in COLUMNS}


def make_csv() -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.values() for row in list_rows())
    return text.getvalue().encode()


def make_ndjson() -> bytes:
    lines = (
        json.dumps({name: value for name, value in row.items() if value}, separators=(",", ":")) for row in list_rows()
    )
    return "".join(f"{line}\n" for line in lines).encode()


if __name__ == "__main__":
    sys.stdout.buffer.write({"csv": make_csv, "ndjson": make_ndjson}[sys.argv[1]]())
