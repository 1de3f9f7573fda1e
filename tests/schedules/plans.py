"""The plans that are explored with all rules in force: each kind of fault by itself, and related ones together."""

from __future__ import annotations

from typing import Final

from schedule import Plan

REDIS: Final = ("restart", "rollback", "flush", "evict", "pause", "cut", "failover")
POSTGRES: Final = ("postgres_cut", "postgres_slow", "postgres_restart", "postgres_restore")
AH: Final = ("A", "hand")

PLANS: Final = (
    Plan("no fault", promises=("A", "B")),
    Plan("by hand", promises=AH, hand=True),
    *(Plan(fault, (fault,)) for fault in (*REDIS, "stall", *POSTGRES)),
    # A process that cannot ask PostgreSQL believes its copies, so with that changes by hand are two failures.
    *(Plan(f"{fault}, by hand", (fault,), AH, hand=True) for fault in (*REDIS, "stall", "postgres_restart")),
    *(Plan(", ".join(faults), faults, ("A", "C")) for faults in (("death",), ("death", "pause"), ("death", "cut"))),
    Plan("suspensions", promises=("A", "hand"), hand=True, settles=True),
    *(
        Plan(f"{', '.join(faults)}, suspensions", faults, AH, hand=hand, settles=True)
        for faults, hand in (
            (("postgres_cut",), False),
            (("postgres_cut",), True),
            (("postgres_slow",), False),  # too slow for everybody is away for everybody
            (("postgres_death",), False),
            (("postgres_death", "stall"), False),
            (("postgres_death", "cut"), False),
            (("postgres_failover",), False),
            (("postgres_return",), False),
            (("skew",), True),
        )
    ),
    Plan("death, suspensions", ("death",), ("A", "C"), settles=True),
    Plan("all of redis, suspensions", REDIS, settles=True),
    Plan("all of redis", REDIS),
    Plan("all of redis, by hand", REDIS, hand=True),
    Plan("no fault, crowds", promises=("A", "B"), crowds=True),
    Plan("all of redis, crowds", REDIS, crowds=True),
    Plan("death, suspensions, crowds", ("death",), ("A", "C"), settles=True, crowds=True),
    Plan("no fault, registrations", promises=("A", "B"), registers=True),
    Plan("all of redis, registrations", REDIS, registers=True),
    Plan("death, registrations", ("death",), ("A", "C"), registers=True),
    Plan("all of postgres, registrations", POSTGRES, registers=True),
    Plan("postgres_failover, registrations", ("postgres_failover",), settles=True, registers=True),
    Plan("stall, registrations", ("stall",), registers=True),
    Plan("all of redis, stall", (*REDIS, "stall")),
)
