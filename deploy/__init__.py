"""What puts x402jobs on a machine of yours, and what can be known of it beforehand."""
