"""The task door off the wire, for callers whom Supabase Auth has signed in."""

from tests.wire.test_task_door import *  # noqa: F403

# There the token is signed by `x402jobs token`, which speaks for the embedded store alone.
del test_the_curl_commands_of_the_page_lead_to_an_answer  # noqa: F821
