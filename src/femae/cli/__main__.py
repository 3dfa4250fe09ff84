"""`python -m femae.cli`, the same as `femae`."""

import sys

from femae.cli import main

if __name__ == "__main__":  # not in the worker processes that import it
    sys.exit(main())
