import pytest

from promptopt.space.emphasis import emphasis_warning, emphasized


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a (red:1.2) polyp", "(red:1.2)"),
        ("a ({red|pale}: .8) polyp", "({red|pale}: .8)"),
        ("a [red] polyp", "[red]"),
        ("a ((red)) polyp", "((red))"),
        ("a polyp (sessile, 5 mm)", None),
        (r"a \(red:1.2) polyp", None),
        ("at 12:30", None),
    ],
)
def test_emphasis_of_the_web_ui_is_seen_and_other_brackets_are_not(prompt: str, found: str | None) -> None:
    assert emphasized(["a polyp", prompt]) == found


def test_warning_names_it_and_says_what_happens() -> None:
    said = emphasis_warning(["a (red:1.2) polyp"])
    assert said is not None
    assert "(red:1.2)" in said
    assert "plain text" in said
