"""Seeds that follow from a text: an image made years ago must come out again, so the numbers are fixed."""

from generators.clip_baseline.clip_guided import derived_seed
from promptopt.base.seeds import hashed_seed
from promptopt.synthesis.plan import image_seed


def test_seeds_are_the_first_bits_of_sha256() -> None:
    # The digests are those of `printf TEXT | sha256sum`.
    assert hashed_seed("abc") == 0xBA7816BF8F01CFEA
    assert image_seed(0, 1, 1) == 0x4939E0F1FBA1AD7E >> 1
    assert derived_seed(5, 0) == 5
    assert derived_seed(5, 1) == 0xB8DB3FAF75728B2B & (2**63 - 1)
