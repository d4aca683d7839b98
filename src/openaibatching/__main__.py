"""`python -m openaibatching` is the `openaibatching` command."""

import sys

from openaibatching.cli import main

sys.exit(main())
