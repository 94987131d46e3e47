"""What lets one laptop run everything with no accounts."""
