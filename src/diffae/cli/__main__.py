"""`python -m diffae.cli`, for `accelerate launch -m diffae.cli` and `torchrun -m diffae.cli`."""

import sys

from diffae.cli import main

sys.exit(main())
