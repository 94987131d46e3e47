"""What a relayed word costs: measured side by side, never from one run."""
