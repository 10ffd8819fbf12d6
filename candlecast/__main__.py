"""`candlecast` and `python -m candlecast`: the command line, whatever files lie around.

Python puts the working directory first for `-m`. Where that hides one of our packages, the program
starts itself again in Python's safe-path mode (`-P`), which leaves the working directory out.
"""

import os
import sys

from candlecast._rooms import first_clash


def main() -> None:
    """Run the command line."""
    clash = first_clash()
    if clash is not None:
        if not sys.flags.safe_path:
            os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])
        print(f"error: {clash}", file=sys.stderr)
        sys.exit(2)  # as for any other bad input
    from cluster.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
