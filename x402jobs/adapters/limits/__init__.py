"""Where limits are counted: in one process's memory, or in a Redis that all of them share."""
