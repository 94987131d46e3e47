"""The outside world, one vendor a file or folder; vendors' exceptions become ours here."""
