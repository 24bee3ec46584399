"""`python -m cofit` is the command `cofit`."""

import sys

from cofit.cli import main

sys.exit(main())
