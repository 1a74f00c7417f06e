"""How long from the organizers' files of MEDVQA-GI to a report, and to a submission that passes its check?

    python scripts/bench/newcomers/challenge.py [--small] [--work DIR]

The commands are those of docs/tutorials/challenge.md. The files have the organizers' form; the phantom drew
the images.
"""

from newcomer import blocks_of, walk

from tests.docs.challenge_files import write_challenge_files

if __name__ == "__main__":
    walk(
        __doc__,
        blocks_of("docs/tutorials/challenge.md"),
        pictures=["work/data-sheet.png", "runs/polyps/report.html"],
        prepare=write_challenge_files,
    )
