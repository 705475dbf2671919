"""`python -m vidembed` is `vidembed`."""

import sys

from vidembed.cli import main

sys.exit(main())
