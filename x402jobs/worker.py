"""gunicorn's gevent worker, which stays until what has been paid for is told."""

import time

from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

LOOK_SECONDS = 0.5


class Worker(GeventWorker):  # type: ignore[misc]
    """Of ours it may import nothing else: see gunicorn.conf.py."""

    def run(self) -> None:
        """Serve. gunicorn's own returns, once asked to end, when the last connection has gone.

        A paid run goes on without any, as long as the grace period lasts; the caretaker ends those
        that do not get ready in time.
        """
        super().run()
        runs = self.wsgi.extensions["x402jobs"].runs
        until = time.monotonic() + self.cfg.graceful_timeout
        while not runs.are_over and time.monotonic() < until:
            self.notify()
            time.sleep(LOOK_SECONDS)  # gevent has patched it
