"""`python -m scratchvae.cli`."""

import sys

from scratchvae.cli import main

sys.exit(main())
