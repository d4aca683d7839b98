"""`python -m openaibatching` is the `openaibatching` command."""

import sys

from openaibatching.cli.main import main

sys.exit(main())
