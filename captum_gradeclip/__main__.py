"""``python -m captum_gradeclip`` is ``gradeclip``."""

import sys

from .cli import main

sys.exit(main())
