"""`python -m femae.cli`, the same as `femae`."""

import sys

from femae.cli import main

sys.exit(main())
