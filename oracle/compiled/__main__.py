"""`python -m oracle.compiled`: say whether the lookup path runs compiled here; exit code 1 if it does not."""

import sys

from oracle.compiled import find_state

state = find_state()
print(state)  # noqa: T201 - a command line prints
sys.exit(not state.compiled)
