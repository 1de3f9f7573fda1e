"""A process that seals until it is killed: `python sealing_process.py URL KEY_FILE`.  It says a line when it begins."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from oracle.audit.keys import KeyFile
from oracle.audit.sealer import Sealer, SealingLimits
from oracle.store.servers import Servers


async def main(url: str, key_file: Path) -> None:
    # Small portions without rest: as many commits as can be, for a kill to come into.
    print("sealing", flush=True)
    limits = SealingLimits(batch=64)
    await Sealer(Servers(url), KeyFile(key_file), interval_s=0.01, rest=0, limits=limits).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
