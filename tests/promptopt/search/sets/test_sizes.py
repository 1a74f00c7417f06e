"""Errors over real images are errors over their groups."""

from dataclasses import replace

import numpy as np

from promptopt.search.sets.embeddings import MeanEmbeddings
from promptopt.search.sets.sizes import choose_size
from promptopt.search.sets.weights import Problem


def test_frames_of_one_lesion_count_as_one() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(18, 3))
    embeddings: MeanEmbeddings[int] = MeanEmbeddings(real, bandwidth=1.5)
    for prompt in range(14):
        embeddings.put(prompt, rng.normal(size=3) + rng.normal(scale=0.5, size=(4, 3)))
    form = embeddings.form()
    problem = Problem(form.ridged(), form.across, np.zeros(14))
    once = choose_size(form, problem, most=10, seed=1)
    tenfold = replace(form, per_real=np.repeat(form.per_real, 10, axis=1))
    grouped = replace(tenfold, groups=tuple(np.repeat(np.arange(18), 10).tolist()))
    np.testing.assert_allclose(grouped.ridged(), form.ridged())
    assert choose_size(grouped, problem, most=10, seed=1).chosen == once.chosen
    chosen = grouped.over_reals([0, 1, 10, 25])
    assert chosen.groups == (0, 0, 1, 2)
    assert MeanEmbeddings(real, bandwidth=1.0, groups=list("abcdefghijklmnopqr")).groups is None
    alone = choose_size(tenfold, problem, most=10, seed=1)
    assert alone.chosen <= once.chosen  # as if there were 180 lesions, so a smaller error
