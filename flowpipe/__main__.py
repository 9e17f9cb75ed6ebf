"""``python -m flowpipe``."""

from flowpipe.cli import main

if __name__ == "__main__":
    main()
