"""Laws are checked by hypothesis; how fast the machine is today is not one of them."""

from hypothesis import settings

settings.register_profile("x402jobs", deadline=None)
settings.load_profile("x402jobs")
