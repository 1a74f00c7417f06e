"""What the preparation of a data set found, left out and wrote."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """Counts and lists of one preparation. Files are named relative to the source's ``images`` folder.

    - ``preparation``: how it was made: kind, source (folder name), center, seed, shares; and the sha256 of
      its input tables
    - ``images``, ``prompts`` (captions of those pictures), ``distinct_prompts``: what was written
    - ``by_category``, ``by_label``, ``by_center``, ``by_pool``: pictures each; ``by_category_pool``:
      category, pool
    - ``groups``: of pictures that belong together; ``grouping``: "images.jsonl" or "near-duplicates";
      ``shared_groups``: those with more than one picture; ``duplicates``: sets of byte-identical files
    - left out: ``captions_without_image``, ``images_without_caption``, ``broken`` (file: reason),
      ``images_without_readable_caption``
    - ``caption_rows``: rows read from prompt-gt.csv
    - ``repeated_rows``: rows that say the same of the same picture again; used once
    - ``unlisted_rows``: rows of images.jsonl for pictures that are not used
    - ``attributes``: by the grammar: slot: value: pictures
    - ``quirks``: description: captions with it; ``unparsed``: caption: error (kept as text where the
      picture has another caption that can be read)
    """

    preparation: Mapping[str, Any]
    images: int
    prompts: int
    distinct_prompts: int
    by_category: Mapping[str, int]
    by_label: Mapping[str, int]
    by_center: Mapping[str, int]
    by_pool: Mapping[str, int]
    by_category_pool: Mapping[str, Mapping[str, int]]
    groups: int
    grouping: str
    shared_groups: int
    duplicates: tuple[tuple[str, ...], ...]
    captions_without_image: tuple[str, ...]
    images_without_caption: tuple[str, ...]
    images_without_readable_caption: tuple[str, ...]
    broken: Mapping[str, str]
    caption_rows: int
    repeated_rows: int
    unlisted_rows: int
    quirks: Mapping[str, int]
    unparsed: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as in ``prepare-report.json``."""
        value = asdict(self)
        value["duplicates"] = [list(names) for names in self.duplicates]
        for key in ("captions_without_image", "images_without_caption", "images_without_readable_caption"):
            value[key] = list(value[key])
        return value

    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, how many) for a table, in reading order; nothing left out goes unsaid."""
        rows = [
            ("images", str(self.images)),
            ("prompts", str(self.prompts)),
            ("distinct prompts", str(self.distinct_prompts)),
        ]
        for name in ("category", "label", "center", "pool"):
            rows += [(f"{name}: {key}", str(count)) for key, count in getattr(self, f"by_{name}").items()]
        rows += [
            (f"{category} in {pool}", str(count))
            for category, pools in self.by_category_pool.items()
            for pool, count in pools.items()
        ]
        rows += [
            (f"groups ({self.grouping})", str(self.groups)),
            ("groups of more than one image", str(self.shared_groups)),
            ("sets of identical files", str(len(self.duplicates))),
            ("left out: broken images", str(len(self.broken))),
            ("left out: captions' files that do not exist", str(len(self.captions_without_image))),
            ("left out: images without a caption", str(len(self.images_without_caption))),
            (
                "left out: images without a caption that can be read",
                str(len(self.images_without_readable_caption)),
            ),
            ("rows of prompt-gt.csv", str(self.caption_rows)),
            ("rows that repeat another", str(self.repeated_rows)),
            ("rows of images.jsonl without a use", str(self.unlisted_rows)),
            ("captions that could not be read", str(len(self.unparsed))),
        ]
        rows += [
            (f"{slot}: {value}", str(count))
            for slot, values in self.attributes.items()
            for value, count in values.items()
        ]
        rows += [(f"quirk: {name}", str(count)) for name, count in self.quirks.items()]
        return rows
