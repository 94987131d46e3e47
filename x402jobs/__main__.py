"""`python -m x402jobs`: the same command, without its script on the path."""

from x402jobs.cli import main

if __name__ == "__main__":
    main(prog_name="x402jobs")
