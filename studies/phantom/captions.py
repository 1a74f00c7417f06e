"""What one may say of a scene: the challenge's own sentences, and the phrases of the category templates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from studies.phantom.scene import Scene

OPENINGS = (
    "Generate an image containing",
    "a {procedure} image of",
    "an endoscopy photo of",
    "endoscopic view of",
)
SIZE_WORDS = {"< 5mm": "tiny", "5-10mm": "small", "11-20mm": "medium-sized", ">20mm": "large"}
PARIS_WORDS = {"is": "sessile", "ip": "pedunculated", "iia": "flat"}
ARTICLES = {
    "z-line": "the z-line",
    "pylorus": "the pylorus",
    "cecum": "the cecum",
    "ileum": "the ileum",
    "biopsy forceps": "biopsy forceps",
    "polyp snare": "a polyp snare",
    "tube": "a tube",
    "metal clip": "a metal clip",
    "injection needle": "an injection needle",
    "normal": "normal mucosa",
}
GENERIC = {"landmarks": "an anatomical landmark", "instruments": "an instrument"}


def captions(
    scene: Scene, rng: np.random.Generator, *, challenge: int = 2, phrases: int = 4, plain: int = 2
) -> tuple[str, ...]:
    """``challenge`` captions of one to three challenge sentences, ``phrases`` descriptions, ``plain`` ones.

    Each mentions a random part of the truth and nothing but the truth. The plain ones mention one thing
    alone: a generator learns from them what a location or a number is worth, which it does not from
    captions in which color and kind explain more of the picture.
    """
    sentences = challenge_sentences(scene)
    texts = []
    for _ in range(challenge):
        count = int(rng.integers(1, 4))
        # The first two sentences name the category; few captions should leave it out.
        chosen = [int(rng.integers(2))] if count > 1 or rng.random() < 0.6 else []
        rest = [i for i in rng.permutation(len(sentences)).tolist() if i not in chosen]
        texts.append(" ".join(sentences[i] for i in (chosen + rest)[:count]))
    texts += [describe(scene, rng) for _ in range(phrases)]
    texts += [describe_one(scene, rng) for _ in range(plain)]
    return tuple(texts)


def challenge_sentences(scene: Scene) -> list[str]:
    """Every sentence of the challenge's grammar that is true of the scene."""
    say = []
    n = scene.count
    places = _join([thing.location for thing in scene.things])
    if scene.category == "polyps":
        say += ["containing a polyp", f"with {n} polyp{'s' * (n > 1)}", f"with {n} finding{'s' * (n > 1)}"]
        say += [
            f"with an abnormality with the color {scene.color}",
            f"with an abnormality located in the {places}",
        ]
        say += [f"with a polyp of size {scene.size}", "with no instruments"]
    elif scene.category == "landmarks":
        say += [f"containing {ARTICLES[scene.kind]}", f"with an anatomical landmark located in the {places}"]
        say += ["with no polyps", "with no instruments"]
    elif scene.category == "instruments":
        say += [
            f"containing {scene.kind}",
            "with 1 instrument",
            f"with an instrument located in the {places}",
        ]
        say += ["with no polyps"]
    else:
        say += ["with no findings", "with no polyps", "with no instruments"]
    say.append(f"from a {scene.procedure} procedure")
    say.append(("" if scene.text else "not ") + "containing text")
    say.append(("" if scene.box else "not ") + "containing a green/black box artefact")
    sentences = [f"Generate an image {part}." for part in say]
    if scene.paris:
        sentences.append(f"Generate a polyp of type paris {scene.paris}.")
    return sentences


def describe(scene: Scene, rng: np.random.Generator, *, mention: float = 0.5) -> str:
    """A phrase such as "a colonoscopy image of a large red sessile polyp, located in the upper-left, sharp".

    Each part is mentioned with probability ``mention``.
    """

    def told() -> bool:
        return bool(rng.random() < mention)

    opening = str(rng.choice(OPENINGS)).format(procedure=scene.procedure)
    parts = [f"{opening} {_subject(scene, told)}"]
    if scene.things and told():
        parts.append(_place(scene))
    if scene.category == "polyps" and told():
        parts.append(_number(scene))
    if scene.sharpness == "blurred" or rng.random() < 0.3:
        parts.append(scene.sharpness)
    if scene.light == "dim" or rng.random() < 0.3:
        parts.append(scene.light)
    if rng.random() < 0.35:
        parts.append("with text" if scene.text else "no text")
    if rng.random() < 0.35:
        parts.append("with a green box" if scene.box else "no green box")
    return ", ".join(parts)


def describe_one(scene: Scene, rng: np.random.Generator) -> str:
    """A phrase that tells one thing: where, how many, or what kind, size or color."""
    opening = str(rng.choice(OPENINGS)).format(procedure=scene.procedure)
    if scene.category == "normal":
        return f"{opening} {ARTICLES[scene.kind]}"
    if rng.random() < 0.5:
        return f"{opening} {_subject(scene, lambda: False)}, {_place(scene)}"
    if scene.category != "polyps":
        return f"{opening} {ARTICLES[scene.kind]}"
    if rng.random() < 0.5:
        return f"{opening} a polyp, {_number(scene)}"
    words = (SIZE_WORDS[scene.size or ""], scene.color or "", PARIS_WORDS[scene.paris or ""])
    return f"{opening} a {rng.choice(words)} polyp"


def _place(scene: Scene) -> str:
    return "located in the " + _join([thing.location for thing in scene.things])


def _number(scene: Scene) -> str:
    return f"{scene.count} polyp{'s' * (scene.count > 1)}"


def _subject(scene: Scene, told: Callable[[], bool]) -> str:
    if scene.category == "polyps":
        words = [
            SIZE_WORDS[scene.size or ""] if told() else "",
            scene.color or "" if told() else "",
            PARIS_WORDS[scene.paris or ""] if told() else "",
        ]
        return " ".join(["a", *(word for word in words if word), "polyp"])
    if scene.category in GENERIC and not told():
        return GENERIC[scene.category]
    return ARTICLES[scene.kind]


def _join(words: Sequence[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
