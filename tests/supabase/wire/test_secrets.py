"""Nothing planted comes out: not in a response, not in a log at DEBUG, not unsealed at rest."""

from tests.wire.test_secrets import *  # noqa: F403
