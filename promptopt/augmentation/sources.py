"""What an augmentation set is drawn from: the portfolio of a study, or prompts given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.family import MAIN, GeneratorFamily, Member
from promptopt.base.errors import PromptoptError
from promptopt.base.seeds import hashed_seed
from promptopt.config.generator_uris import varied_members
from promptopt.config.study_file import StudyConfig, load_study
from promptopt.run import folder as runfolder
from promptopt.run.prompts import Network, PromptEntry, PromptList, read_prompts
from promptopt.space import Candidate
from promptopt.space.of_category import open_category
from promptopt.synthesis.plan import Sampling, describe_too_long, split_too_long
from promptopt.synthesis.prompt_files import PromptLine

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.request import ImageRequest

RANDOM_PROMPTS = 32
"""Different prompts that stand for "random prompts of the template"."""


class AugmentationError(PromptoptError, ValueError):
    """An augmentation set cannot be made as asked; the message says why, what is kept and the remedy."""


@dataclass(frozen=True, kw_only=True)
class SourcePrompt:
    """A candidate and its share of the images (relative to the others')."""

    candidate: Candidate
    weight: float

    @property
    def key(self) -> int:
        """A number that its image seeds follow from: equal prompts have equal ones in every set."""
        return hashed_seed(self.candidate.label)


@dataclass(frozen=True, kw_only=True)
class ClassSource:
    """One class of images.

    Attributes:
        name: of the class: the study's category, or as given by hand. Real images are of the class by it.
        prompts: those with a share, 1 or more.
        generators: addresses to load, the main one first; as a rule it is the only one.
        networks: what the prompts were found with, by member name (`generators.family`), with the addresses
            as the study's prompts.json has them; given by hand, as they were given.
        config: of the study; of the first study, for prompts given by hand.
        study: its name; None for prompts given by hand.
        baseline: the study's; None for prompts given by hand.
    """

    name: str
    prompts: tuple[SourcePrompt, ...]
    generators: Mapping[Member, str]
    networks: Mapping[str, Network]
    sampling: Sampling
    config: StudyConfig
    positives: str
    study: str | None = None
    baseline: str | None = None

    @property
    def generator(self) -> str:
        """Address of the main generator."""
        return self.generators[MAIN, None]

    def address_of(self, request: ImageRequest) -> str:
        """What files call the generator of an image."""
        names = {one.fingerprint: one.uri for one in self.networks.values()}
        return names.get(request.generator, self.networks[MAIN].uri)

    def request(self, generator: Generator, prompt: SourcePrompt, seed: int) -> ImageRequest:
        """One image; a prompt's own negative prompt and settings go before the study's."""
        own = self.sampling
        candidate = prompt.candidate
        settings: dict[str, Any] = {
            "steps": own.steps,
            "guidance": own.guidance,
            "scheduler": own.scheduler,
            **candidate.generation_parameters,
        }
        negative = candidate.negative_prompt
        return generator.request(
            candidate.prompt,
            seed,
            negative_prompt=own.negative_prompt if negative is None else negative,
            **settings,
        )

    def with_baseline(self) -> ClassSource:
        """The same class from the study's plain prompt alone; itself, where it is given by hand."""
        if self.baseline is None:
            return self
        return replace(self, prompts=(SourcePrompt(candidate=Candidate(self.baseline), weight=1.0),))

    def with_random(self, seed: int) -> ClassSource:
        """The same class from random prompts of the study's template, equally; itself, by hand."""
        if self.study is None:
            return self
        from promptopt.space.of_category import compile_space

        category = open_category(self.config)
        space = compile_space(category, self.config.source)
        rng = np.random.default_rng([seed, 32])
        drawn: dict[Candidate, None] = {}
        for _ in range(50 * RANDOM_PROMPTS):  # a small space has fewer
            drawn.setdefault(space.candidate(space.sample(rng)))
            if len(drawn) == RANDOM_PROMPTS:
                break
        return replace(self, prompts=tuple(SourcePrompt(candidate=one, weight=1.0) for one in drawn))


def read_run(run: str | Path, *, generator: str | None = None) -> ClassSource:
    """The portfolio of a finished study.

    Args:
        run: its run folder.
        generator: address that replaces the study's own.

    Raises:
        AugmentationError: no run folder, one that was cut short, or a study that confirmed no prompt.
        StudyError: a damaged prompts.json or study.yaml.
    """
    folder = Path(run)
    prompts, settings = folder / runfolder.PROMPTS, folder / runfolder.STUDY
    if not folder.is_dir():
        raise AugmentationError(f"{folder}: no such run folder; give runs/<name> of a finished study")
    for path in (prompts, settings):
        if not path.is_file():
            began = (folder / runfolder.DATABASE).exists() or (folder / runfolder.SETTINGS).exists()
            raise AugmentationError(
                f"{folder}: {path.name} is missing: "
                + (
                    "the study is not finished, so no prompt is confirmed; run it again to its end"
                    if began
                    else "not the run folder of a study; give runs/<name>"
                )
            )
    listed = read_prompts(prompts)
    config = load_study(settings)
    confirmed = [entry for entry in listed.prompts if entry.confirmation]
    chosen = [_prompt(entry) for entry in confirmed if entry.weight > 0]
    if not chosen:
        raise AugmentationError(
            f"{prompts}: {len(confirmed)} confirmed prompts, none with a weight above 0: the study has no "
            "confirmed portfolio; run it again to its end"
        )
    networks = {MAIN: listed.generator, **listed.generators}
    members = varied_members(config, open_category(config).generation_parameters)
    if generator is not None:
        if len(members) > 1:
            raise AugmentationError(
                f"{folder}: its prompts name generators of their own ({', '.join(listed.generators)}), which "
                f"--generator {generator} cannot stand for; leave it out"
            )
        members = {(MAIN, None): generator}
        networks = {MAIN: listed.generator.model_copy(update={"uri": generator})}
    return ClassSource(
        name=listed.category,
        prompts=tuple(chosen),
        generators=members,
        networks=networks,
        sampling=_sampling(listed),
        config=config,
        positives=str(listed.settings.get("positives", listed.category)),
        study=listed.study,
        baseline=listed.baseline.prompt,
    )


def by_hand(name: str, prompts: Sequence[str], *, like: ClassSource) -> ClassSource:
    """A class without a study: its prompts share the images equally; all else is as in `like`.

    Raises:
        AugmentationError: an empty name or prompt.
    """
    if not name.strip() or not prompts or not all(prompt.strip() for prompt in prompts):
        raise AugmentationError(f"class {name!r}: write NAME=PROMPT, both not empty")
    plain = tuple(SourcePrompt(candidate=Candidate(p.strip()), weight=1.0) for p in dict.fromkeys(prompts))
    return replace(like, name=name.strip(), positives=name.strip(), prompts=plain, study=None, baseline=None)


def check_generator(source: ClassSource, generator: Generator, *, allow_other: bool) -> str | None:
    """Refuse other weights than the study's, and prompts that would be cut; returns a warning, or None.

    Raises:
        AugmentationError: names both fingerprints, or lists the prompts.
    """
    lines = [
        PromptLine(text=p.candidate.prompt, number=n, line=n, negative=p.candidate.negative_prompt)
        for n, p in enumerate(source.prompts, start=1)
    ]
    _, long = split_too_long(lines, generator, negative_prompt=source.sampling.negative_prompt)
    if long:
        listed = describe_too_long(long, len(lines), generator.max_tokens)
        raise AugmentationError(f"class {source.name}: {listed.rsplit(chr(10), 1)[0]}\nShorten them.")
    now = {MAIN: generator.fingerprint}
    if isinstance(generator, GeneratorFamily):
        now = generator.fingerprints
    other = [name for name, then in source.networks.items() if now.get(name) != then.fingerprint]
    if not other:
        return None
    then, found = source.networks[other[0]], now.get(other[0], "none")
    both = (
        f"class {source.name}: its prompts were found with the generator {then.fingerprint[:16]} "
        f"({source.study or 'as the other classes'}), {then.uri} is {found[:16]}"
    )
    if allow_other:
        return both
    raise AugmentationError(
        f"{both}; weights found with one say nothing of the other. Give the study's own generator, or say "
        "--allow-other-generator"
    )


def check_classes(sources: Sequence[ClassSource]) -> None:
    """Refuse two sources of one class, and classes whose folders would have one name."""
    from promptopt.augmentation.writers import slug

    seen: dict[str, ClassSource] = {}
    for source in sources:
        other = seen.get(slug(source.name))
        seen[slug(source.name)] = source
        if other is not None:
            raise AugmentationError(
                f"the classes {other.name!r} ({other.study or 'by hand'}) and {source.name!r} "
                f"({source.study or 'by hand'}) are the same, or would share the folder "
                f"{slug(source.name)!r}; give one study a class"
            )


def _prompt(entry: PromptEntry) -> SourcePrompt:
    return SourcePrompt(candidate=entry.candidate, weight=entry.weight)


def _sampling(listed: PromptList) -> Sampling:
    used = listed.settings.get("generator", {})
    keys = ("negative_prompt", "steps", "guidance", "scheduler")
    return Sampling(**{key: used[key] for key in keys if key in used})
