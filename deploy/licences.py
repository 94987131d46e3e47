"""The licences under which what we ship may be had, and why each is no trouble."""

from collections.abc import Iterable, Mapping
from typing import Any

from license_expression import (  # type: ignore[import-untyped]  # it has no types
    AND,
    OR,
    ExpressionError,
    LicenseExpression,
    Licensing,
)

NOTICE = "ours to ship with its notice, which every installed package carries"
ALLOWED = {
    **dict.fromkeys(("MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause"), NOTICE),
    **dict.fromkeys(("PSF-2.0", "Python-2.0", "CNRI-Python", "ZPL-2.1"), NOTICE),
    "Apache-2.0": f"{NOTICE}; patents are granted to whoever does not sue",
    "MPL-2.0": "files of it that are changed have to be shown; we change none",
    "LGPL-3.0-only": "a library, which whoever has the image may exchange; we change none",
    # What older packages say instead of one of the above.
    "License :: OSI Approved :: Apache Software License": NOTICE,
    "License :: OSI Approved :: BSD License": NOTICE,
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "as MPL-2.0",
    "License :: Public Domain": "nobody's to forbid",
}
"""By SPDX identifier, or by trove classifier. What is not here has to be read by somebody first."""


def faults(bill: Mapping[str, Any]) -> list[str]:
    """A line for each package of a CycloneDX bill whose licence is unknown or not allowed."""
    return [
        f"{package['name']} {package['version']}: {said or 'no licence is named'}"
        for package in bill["components"]
        for said in _refused(package.get("licenses", []))
    ]


def _refused(declared: Iterable[Mapping[str, Any]]) -> list[str]:
    """What of a package's own words is not allowed; one empty word where it has none.

    A package may say the same twice, in a classifier and by identifier, or two things that both
    hold: all of them have to be allowed.
    """
    said = [_said(each) for each in declared]
    return [each for each in said if not _is_allowed(each)] if said else [""]


def _said(declared: Mapping[str, Any]) -> str:
    licence = declared.get("license", {})
    words: str = declared.get("expression") or licence.get("id") or licence.get("name") or ""
    return words


def _is_allowed(words: str) -> bool:
    if words in ALLOWED:
        return True
    try:
        expression = Licensing().parse(words)
    except ExpressionError:  # prose
        return False
    return expression is not None and _holds(expression)


def _holds(expression: LicenseExpression) -> bool:
    match expression:
        case AND():
            return all(_holds(each) for each in expression.args)
        case OR():
            return any(_holds(each) for each in expression.args)
    return str(expression) in ALLOWED  # "… WITH exception" is as a whole unknown
