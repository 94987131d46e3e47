"""gunicorn.conf.py, where a worker finds other people's packages loaded: dozens are killed."""

import gc
import runpy

from gevent import monkey

# What they import has to be what the worker would have: it patches the rest itself. The master's
# own work is to fork, to hear signals and to wait.
monkey.patch_all(os=False, signal=False, select=False, time=False)

# After the patch (E402), and for their loading alone (F401).
import anthropic  # noqa: E402, F401
import flask  # noqa: E402, F401
import marshmallow  # noqa: E402, F401
import pytest  # noqa: E402, F401
import structlog  # noqa: E402, F401
import x402.mechanisms.evm.exact  # noqa: E402, F401

gc.freeze()
globals().update(runpy.run_path("gunicorn.conf.py"))
