"""How long from two folders of images without captions to a report by networks fine-tuned on them?

    python scripts/bench/newcomers/researcher.py [--small] [--work DIR]

The commands are those of docs/own-images.md, its drawn images among them, down to the proof.
"""

from newcomer import blocks_of, walk

if __name__ == "__main__":
    walk(
        __doc__,
        # the same images once more, by another way in
        blocks_of("docs/own-images.md", without="data prepare imagefolder"),
        picture="runs/own/report.html",
        prepare=lambda work: None,
    )
