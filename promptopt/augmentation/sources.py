"""What an augmentation set is drawn from: the classes of a study, or prompts given by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.family import MAIN, GeneratorFamily, Member
from promptopt.base.errors import PromptoptError
from promptopt.base.naming import without_home
from promptopt.base.seeds import hashed_seed
from promptopt.config.generator_uris import varied_members
from promptopt.config.study_file import StudyConfig, load_study
from promptopt.run import folder as runfolder
from promptopt.run.finished import FinishedRun, read_finished
from promptopt.run.prompt_sets import METHODS, ClassEntry
from promptopt.run.prompts import Network, PromptEntry, PromptList
from promptopt.space import Candidate
from promptopt.space.of_category import compile_space, open_category
from promptopt.space.prompt_lines import PromptLine
from promptopt.synthesis.plan import Sampling, describe_too_long, split_too_long

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.request import ImageRequest


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
        single: its best prompt alone; None for prompts given by hand.
        entry: what prompts.json says of the class, in a study of sets.
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
    single: Candidate | None = None
    entry: ClassEntry | None = None

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

    def by(self, method: str, count: int, *, seed: int) -> ClassSource:
        """The same class by another choice of prompts; itself, where it is given by hand.

        Those of "learned" and "random" are drawn one by one for each of `count` images, without end.

        Args:
            method: "set" (of a study of single prompts: its portfolio), "learned", "baseline", "random" (of
                the template), or "single".

        Raises:
            AugmentationError: an unknown method, or one that the study does not have.
        """
        if method not in METHODS:
            raise AugmentationError(f"{method!r} does not exist; use {', '.join(METHODS)}")
        if self.study is None or method == "set":
            return self
        if method in ("baseline", "single"):
            chosen = Candidate(self.baseline or "") if method == "baseline" else self.single
            assert chosen is not None  # for the type checker
            return replace(self, prompts=(SourcePrompt(candidate=chosen, weight=1.0),))
        if method == "learned":
            if self.entry is None or self.entry.learned is None:
                raise AugmentationError(
                    f"class {self.name}: the study {self.study} has no learned template; a study of sets "
                    "(aim: set) with prompts of a template has one"
                )
            drawn = self.entry.learned.sample(count, seed=seed)
        else:
            space = compile_space(open_category(self.config), self.config.source)
            rng = np.random.default_rng([seed, 32])
            drawn = [space.candidate(space.sample(rng)) for _ in range(count)]
        prompts = tuple(SourcePrompt(candidate=c, weight=float(n)) for c, n in Counter(drawn).items())
        return replace(self, prompts=prompts)


def read_run(run: str | Path, *, generator: str | None = None) -> list[ClassSource]:
    """The classes of a finished study: of a study of sets all of them, of another its one.

    Args:
        run: its run folder.
        generator: address that replaces the study's own.

    Raises:
        ExportError: no run folder, one that was cut short, or a study that confirmed no prompt.
        AugmentationError: no study.yaml, or prompts of several generators beside `generator`.
        StudyError: a damaged prompts.json.
    """
    return [_source(one, generator) for one in read_finished(run)]


def _source(run: FinishedRun, generator: str | None) -> ClassSource:
    listed, config, entry = run.prompts, run.config, run.entry
    if config is None:
        load_study(run.folder / runfolder.STUDY)  # says what is wrong with it
        raise AugmentationError(f"{run.folder / runfolder.STUDY}: has no class {run.label!r}; run it again")
    networks = {MAIN: listed.generator, **listed.generators}
    members = varied_members(config, open_category(config).generation_parameters)
    if generator is not None:
        if len(members) > 1:
            raise AugmentationError(
                f"{run.folder}: its prompts name generators of their own ({', '.join(listed.generators)}), "
                f"which --generator {generator} cannot stand for; leave it out"
            )
        members = {(MAIN, None): generator}
        networks = {MAIN: listed.generator.model_copy(update={"uri": without_home(generator)})}
    shares = [p for p in listed.prompts if p.weight > 0 and (entry is not None or p.confirmation)]
    if not shares:
        raise AugmentationError(
            f"{run.folder / runfolder.PROMPTS}: no confirmed prompt with a weight above 0; run the study "
            "again to its end"
        )
    return ClassSource(
        name=listed.category if entry is None else entry.label,
        prompts=tuple(_prompt(one) for one in shares),
        generators=members,
        networks=networks,
        sampling=_sampling(listed),
        config=config,
        positives=run.label,
        study=listed.study,
        baseline=listed.baseline.prompt,
        single=listed.prompts[0].candidate if entry is None else entry.single.candidate,
        entry=entry,
    )


def by_hand(name: str, prompts: Sequence[str], *, like: ClassSource) -> ClassSource:
    """A class without a study: its prompts share the images equally; all else is as in `like`.

    Raises:
        AugmentationError: an empty name or prompt.
    """
    if not name.strip() or not prompts or not all(prompt.strip() for prompt in prompts):
        raise AugmentationError(f"class {name!r}: write NAME=PROMPT, both not empty")
    plain = tuple(SourcePrompt(candidate=Candidate(p.strip()), weight=1.0) for p in dict.fromkeys(prompts))
    return replace(
        like,
        name=name.strip(),
        positives=name.strip(),
        prompts=plain,
        study=None,
        baseline=None,
        single=None,
        entry=None,
    )


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
