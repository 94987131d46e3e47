"""Whatever the product depends on goes away and comes back, under real gunicorn."""
