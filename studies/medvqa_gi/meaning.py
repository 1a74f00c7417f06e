"""What a picture shows, from all of its captions: the category and the label of the prepared data set."""

from collections.abc import Sequence

from studies.medvqa_gi.attributes import INSTRUMENTS, Attributes


def category_and_label(statements: Sequence[Attributes]) -> tuple[str, str]:
    """Category and label of a picture, from the first of these rules that holds.

    1. polyps, "polyp": a polyp is named, or some are counted, sized or typed
    2. landmarks, its name: a landmark is named, or located ("anatomical landmark")
    3. instruments, the most telling name (INSTRUMENTS' order): one is named, counted or located
       ("instrument")
    4. pathology, its name: another finding is named, or something abnormal counted, colored or located
       ("abnormality")
    5. normal, "normal"
    """
    if any(
        "polyp" in s.findings or (s.counted == "polyps" and s.count) or s.paris or s.sizes for s in statements
    ):
        return "polyps", "polyp"
    located = {s.located for s in statements}
    landmarks = [s.landmark for s in statements if s.landmark]
    if landmarks or "anatomical landmark" in located:
        return "landmarks", landmarks[0] if landmarks else "anatomical landmark"
    named = {name for s in statements for name in s.instruments}
    if named or "instrument" in located or any(s.counted == "instruments" and s.count for s in statements):
        return "instruments", next((name for name in INSTRUMENTS if name in named), "instrument")
    findings = [name for s in statements for name in s.findings]
    if findings:
        return "pathology", findings[0]
    if "abnormality" in located or any(s.colors or (s.counted == "findings" and s.count) for s in statements):
        return "pathology", "abnormality"
    return "normal", "normal"
