"""How tables and figures call what a study of sets compares."""

LESS = 1000
"""MMD^2 is shown times this."""

SHORT = {
    "set": "set",
    "learned": "learned template",
    "baseline": "baseline prompt",
    "random": "random prompts",
    "single": "best single prompt",
    "captions": "captions",
    "real": "real images alone",
}
"""Names of what is compared, for tables."""

TITLES = {
    "set": "the set",
    "learned": "the learned template",
    "baseline": "the baseline prompt",
    "random": "random prompts of the template",
    "single": "the best single prompt",
    "captions": "captions of real images",
    "real": "real images alone",
}
