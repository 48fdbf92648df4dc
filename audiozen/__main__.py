"""Runs the command `audiozen` as `python -m audiozen`, in case the command is not on the search path."""

import sys

from audiozen_core.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = "audiozen"  # the record of a run contains the command line
    main()
