"""`python -m promptopt`: the command line."""

from promptopt.cli import main

main()
