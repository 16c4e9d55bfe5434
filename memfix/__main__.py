"""Where memfix starts: the command `memfix`, and `python -m memfix`, also under `accelerate launch -m memfix`."""

import sys

from memfix.errors import ExitCode


def begin() -> None:
    """Run the command line. An interruption while Python still imports it ends as one later does."""
    try:
        from memfix.cli import main

        main()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    begin()
