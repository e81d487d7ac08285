"""The templates of HTML pages."""

from __future__ import annotations

import jinja2


def environment() -> jinja2.Environment:
    """Templates beside this file, with all text escaped and no name left undefined."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("aosa.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
