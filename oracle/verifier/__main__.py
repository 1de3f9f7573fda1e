"""`python -m oracle_verify` is `oracle-verify`."""

import sys

from .cli import main

sys.exit(main())
