"""`python -m sparcell` is the command `sparcell`."""

from sparcell.cli.main import main

main()
