"""`python -m femae`, the same as the command `femae`."""

import sys

from femae.cli import main

sys.exit(main())
