"""How gunicorn serves a relay without services: as it serves the product, on plain gevent."""

import gc
import runpy
from pathlib import Path

_PRODUCT = runpy.run_path(str(Path(__file__).resolve().parent.parent / "gunicorn.conf.py"))
globals().update({name: each for name, each in _PRODUCT.items() if not name.startswith("_")})

worker_class = "gevent"


def post_worker_init(_: object) -> None:
    """There is no caretaker to start."""
    gc.freeze()
    gc.enable()
