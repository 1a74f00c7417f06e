"""`promptopt` and `python -m promptopt`: the command line; a signal ends it in one sentence at any time."""

from promptopt.base import interrupts


def run() -> None:
    """Load the commands and run the one that was typed."""
    interrupts.end_at_once()
    from promptopt.cli.main import main

    main()


if __name__ == "__main__":
    run()
