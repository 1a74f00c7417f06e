"""How long until somebody with a laptop, who knows nothing of promptopt, sees a report?

    python scripts/bench/newcomers/laptop.py [--small] [--work DIR]

The commands are those of docs/tutorials/laptop.md, all of them.
"""

from newcomer import blocks_of, study_files, walk

if __name__ == "__main__":
    walk(
        __doc__,
        blocks_of("docs/tutorials/laptop.md"),
        pictures=["runs/quickstart-coast/first-images.png", "runs/quickstart-coast/report.html"],
        prepare=study_files,
    )
