"""`python -m promptopt`: the command line."""

from promptopt.cli.main import main

main()
