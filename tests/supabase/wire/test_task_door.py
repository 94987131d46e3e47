"""The task door behind nginx, as the programs of other people meet it."""

from tests.wire.test_task_door import *  # noqa: F403
