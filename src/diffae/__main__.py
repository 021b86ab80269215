"""`python -m diffae`."""

import sys

from diffae.cli import main

sys.exit(main())
