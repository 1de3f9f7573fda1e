"""Measures the reading of identifiers, in µs a call, warm: `python loadtests/micro/identifiers.py`.

MSISDN, CLABE and the canonical form of an NRC must stay at or below 2 µs: they are read at every lookup.
Every call takes another identifier, so that no cache of parsed identifiers can improve the figures beyond those
of uniform traffic.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from oracle.identifiers import Reading, display
from oracle.identifiers.msisdn import Msisdn

READING = Reading()

SAMPLES = 20_000
ROUNDS = 7  # the best one counts: the others include other load of the machine


def make_clabe(random_source: random.Random) -> str:
    head = "646180" + "".join(random_source.choices("0123456789", k=11))
    weighted = sum(int(digit) * weight for digit, weight in zip(head, (3, 7, 1) * 6, strict=False))
    return head + str(-weighted % 10)


def measure_best_us(call: Callable[[str], object], texts: Iterable[str]) -> float:
    texts = list(texts)
    fastest = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for text in texts:
            call(text)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / len(texts) * 1e6


def time_in_new_process_ms(code: str) -> float:
    """Time a statement in a fresh interpreter, without the interpreter's own start."""
    timed = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
    runs = (subprocess.run([sys.executable, "-c", timed], capture_output=True, check=True) for _ in range(5))
    return min(float(run.stdout) for run in runs) * 1e3


def choose_key_reader(party_id_type: str, sub_id: str | None = None) -> Callable[[str], object]:
    return lambda text: READING.read_asked_key(party_id_type, text, sub_id)


def choose_reader(kind: str, country: str | None = None) -> Callable[[str], object]:
    return READING.choose_reader(kind, None, country)


def main() -> None:
    READING.preload()
    source = random.Random(20261)
    numbers = [f"{i:06d}" for i in source.sample(range(1_000_000), SAMPLES)]
    mexican = [f"5233{number}{number[:2]}" for number in numbers]
    burmese = [f"95925{number}{number[0]}" for number in numbers]
    zambian = [f"26097{number}{number[0]}" for number in numbers]
    clabes = [make_clabe(source) for _ in numbers]
    nrcs = [f"12-250019-N-{number}" for number in numbers]
    latin = [f"12/OUKAMA(N){number}" for number in numbers]

    nothing = measure_best_us(lambda text: text, mexican)
    table: list[tuple[str, Callable[[str], object], list[str]]] = [
        ("canonical MSISDN +52", choose_reader("MSISDN"), mexican),
        ("canonical CLABE", choose_reader("CLABE"), clabes),
        ("canonical NRC, canonical form", choose_reader("NRC"), nrcs),
        ("canonical MSISDN +95", choose_reader("MSISDN"), burmese),
        ("canonical MSISDN +260", choose_reader("MSISDN"), zambian),
        ("canonical IBAN", choose_reader("IBAN"), ["GB82WEST12345698765432"] * SAMPLES),
        ("canonical ACCOUNT_ID", choose_reader("ACCOUNT_ID"), numbers),
        ("canonical PERSONAL_ID, passport", choose_reader("PERSONAL_ID"), [f"MA{number}" for number in numbers]),
        ("canonical NRC, Latin", choose_reader("NRC"), latin),
        ("hub key MSISDN +52", choose_key_reader("MSISDN"), mexican),
        ("hub key ACCOUNT_ID/CLABE", choose_key_reader("ACCOUNT_ID", "CLABE"), clabes),
        ("hub key PERSONAL_ID, NRC", choose_key_reader("PERSONAL_ID"), nrcs),
        ("hub key MSISDN +95", choose_key_reader("MSISDN"), burmese),
        ("hub key ALIAS with SubId", choose_key_reader("ALIAS", "SHOP-7"), numbers),
        ("MSISDN the long way, +52", Msisdn().read, mexican[:2_000]),
        ("MSISDN national, MX", choose_reader("MSISDN", "MX"), [text[2:] for text in mexican[:2_000]]),
        ("display MSISDN", lambda text: display("MSISDN", text), mexican[:2_000]),
    ]
    print(f"{'':34}{'µs/call':>8}   (Python {sys.version.split()[0]}, less {nothing:.2f} µs of loop and call)")
    for name, call, texts in table:
        print(f"{name:34}{measure_best_us(call, texts) - nothing:8.2f} µs")
    print(f"{'import oracle.identifiers':34}{time_in_new_process_ms('import oracle.identifiers'):8.0f} ms")
    preloaded = time_in_new_process_ms("from oracle.identifiers import Reading; Reading().preload()")
    print(f"{'import and preload':34}{preloaded:8.0f} ms")


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    main()
