"""`python -m femae`, the same as the command `femae`."""

import sys

from femae.cli import main

if __name__ == "__main__":  # spawned worker processes import this module, too
    sys.exit(main())
