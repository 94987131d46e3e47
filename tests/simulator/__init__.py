"""The money rules under a seeded clock: the real services between model peers, a million times."""
