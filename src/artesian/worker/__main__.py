"""`python -m artesian.worker`: started by the front, which describes the worker on stdin."""

import sys

from artesian.worker.loop import main

sys.exit(main())
