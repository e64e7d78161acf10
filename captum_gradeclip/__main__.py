"""``python -m captum_gradeclip`` is the command ``gradeclip``."""

import sys

from .cli import main

sys.exit(main())
