"""How our pages of HTML are opened as templates, and the icon that each of them declares."""

from __future__ import annotations

from urllib.parse import quote

import jinja2
from markupsafe import Markup

_DRAWN = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='3' "
    "fill='#0b5f8a'/><path d='M3 3h4v4H3zM9 3h4v4H9zM3 9h4v4H3z' fill='#fff'/><path d='M9 9h4v4H9z' "
    "fill='#f0a020'/></svg>"
)
# Inside the page: a browser that finds no icon declared asks the server for /favicon.ico.
ICON = Markup('<link rel="icon" href="data:image/svg+xml,{}">').format(quote(_DRAWN, safe=" ='/:"))


def page_templates(package: str) -> jinja2.Environment:
    """The templates of a package: values are escaped, an unknown name is an error, `icon` goes into the head.

    Example:
        >>> page_templates("promptopt.review").from_string("<p>{{ text }}</p>").render(text="1 < 2")
        '<p>1 &lt; 2</p>'
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["icon"] = ICON
    return environment
