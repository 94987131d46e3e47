"""What goes into the image: locked to the byte, licensed for it, and never called safe unasked."""

import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import audit, licences, lock
from deploy.lock import BUILD, RUNTIME, LockError, locked, pins

LOCKS = [pytest.param(each, id=each.stem) for each in (RUNTIME, BUILD)]
DIGEST = "ab" * 32


# The lock


@pytest.mark.parametrize("path", LOCKS)
def test_the_lock_names_wheels_by_their_digests_and_no_place_to_have_them_from(path: Path) -> None:
    entries = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)

    assert entries
    for entry in re.split(r"(?<!\\)\n", entries.strip()):
        pin, *digests = entry.split(" \\\n    ")
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [\w.<>=' ]+)?", pin), pin
        assert digests == sorted(set(digests)), pin
        assert digests and all(
            re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in digests
        )


@pytest.mark.parametrize("path", LOCKS)
def test_the_lock_agrees_with_constraints(path: Path) -> None:
    """What is not the same here and there has been changed without `make lock`."""
    constrained = lock.constraints()

    assert {name: constrained.get(name) for name in pins(path.read_text())} == pins(
        path.read_text()
    )


def test_the_lock_has_what_setup_cfg_asks_for_in_the_version_it_asks_for() -> None:
    wanted = lock.direct(lock.runtime_requirements())

    assert len(wanted) > 10
    assert {name: pins(RUNTIME.read_text()).get(name) for name in wanted} == wanted


def test_what_builds_the_package_is_locked_too() -> None:
    (wanted,) = [Requirement(each) for each in lock.build_requirements()]
    ((name, version),) = pins(BUILD.read_text()).items()

    assert name == wanted.name and version in wanted.specifier


def test_the_lock_has_all_that_is_needed_and_nothing_more() -> None:
    """By what the installed packages themselves say that they need."""
    needed, asked = set(), [Requirement(each) for each in lock.runtime_requirements()]
    seen = set()
    while asked:
        wanted = asked.pop()
        name = canonicalize_name(wanted.name)
        if (key := (name, frozenset(wanted.extras))) in seen:
            continue
        seen.add(key)
        needed.add(name)
        for line in requires(wanted.name) or []:
            child = Requirement(line)
            for extra in ("", *wanted.extras):
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    asked.append(child)

    only_elsewhere = {
        canonicalize_name(name)
        for name in re.findall(r"^([\w.-]+)==\S+ ;", RUNTIME.read_text(), re.MULTILINE)
    }

    assert needed - pins(RUNTIME.read_text()).keys() == set()
    assert pins(RUNTIME.read_text()).keys() - needed - only_elsewhere == set()


def package(*wheels: str, marker: str | None = None) -> dict[str, Any]:
    """A package with these wheels, whose digests are their places in the list."""
    listed = [
        {"url": f"https://somewhere/{wheel}", "hashes": {"sha256": f"{place:064x}"}}
        for place, wheel in enumerate(wheels)
    ]
    return {"name": "thing", "version": "1.0", "wheels": listed} | (
        {"marker": marker} if marker else {}
    )


def entry(*wheels: str, marker: str | None = None) -> str:
    return "".join(locked([package(*wheels, marker=marker)], {"thing": "1.0"}))


@pytest.mark.parametrize(
    ("wheel", "is_locked"),
    [
        ("thing-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("thing-1.0-cp311-cp311-manylinux_2_28_aarch64.whl", True),
        ("thing-1.0-cp38-abi3-manylinux_2_34_x86_64.whl", True),
        ("thing-1.0-cp313-cp313-manylinux1_x86_64.whl", True),
        ("thing-1.0-cp310-cp310-manylinux_2_17_x86_64.whl", False),
        ("thing-1.0-cp313-cp313t-manylinux_2_17_x86_64.whl", False),
        ("thing-1.0-cp311-cp311-manylinux_2_39_x86_64.whl", False),
        ("thing-1.0-cp311-cp311-manylinux_2_17_i686.whl", False),
        ("thing-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("thing-1.0-cp311-cp311-win_amd64.whl", False),
        ("thing-1.0-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("thing-1.0-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl", False),
    ],
)
def test_a_wheel_is_locked_where_some_base_of_ours_can_run_it(wheel: str, is_locked: bool) -> None:
    said = entry("thing-1.0-py3-none-any.whl", wheel)

    assert said.count("--hash=sha256:") == (2 if is_locked else 1)


@pytest.mark.parametrize(
    ("marker", "pin"),
    [
        (None, "thing==1.0"),
        ("sys_platform == 'linux'", "thing==1.0"),
        ("python_full_version < '3.11.3'", "python_full_version < '3.11.3'"),
        ("python_version >= '3.13'", "python_version >= '3.13'"),
        *(
            (f"python_full_version > '{each}.3' and python_full_version < '{each}.100'",) * 2
            for each in ("3.11", "3.12", "3.13")
        ),
        ("sys_platform == 'win32'", ""),
        ("platform_python_implementation == 'PyPy'", ""),
    ],
)
def test_a_package_is_locked_where_it_is_needed(marker: str | None, pin: str) -> None:
    said = entry("thing-1.0-py3-none-any.whl", marker=marker)

    assert said.partition(" \\\n")[0].removeprefix("thing==1.0 ; ") == pin


def test_a_package_that_some_base_of_ours_has_no_wheel_of_is_refused_with_its_name() -> None:
    with pytest.raises(LockError, match=r"thing==1\.0 has no wheel for .* aarch64"):
        entry("thing-1.0-cp38-abi3-manylinux_2_17_x86_64.whl")


def test_a_package_that_constraints_txt_does_not_pin_is_refused_with_the_mend() -> None:
    with pytest.raises(LockError, match=r"thing==1\.0 is not in constraints\.txt; add it"):
        "".join(locked([package("thing-1.0-py3-none-any.whl")], {"thing": "0.9"}))


# The licences


def bill(*declared: dict[str, Any]) -> dict[str, Any]:
    return {"components": [{"name": "thing", "version": "1.0", "licenses": list(declared)}]}


@pytest.mark.parametrize(
    ("declared", "refused"),
    [
        ([{"license": {"id": "MIT"}}], []),
        ([{"expression": "MIT OR GPL-3.0-only"}], []),
        ([{"expression": "GPL-3.0-only OR (Apache-2.0 AND MIT)"}], []),
        ([{"license": {"name": "License :: OSI Approved :: BSD License"}}], []),
        ([{"license": {"id": "AGPL-3.0-only"}}], ["AGPL-3.0-only"]),
        ([{"expression": "MIT AND GPL-3.0-only"}], ["MIT AND GPL-3.0-only"]),
        ([{"expression": "Apache-2.0 WITH Odd-exception"}], ["Apache-2.0 WITH Odd-exception"]),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "SSPL-1.0"}}], ["SSPL-1.0"]),
        ([{"license": {"name": "ask the author"}}], ["ask the author"]),
        ([], ["no licence is named"]),
    ],
)
def test_a_licence_that_nobody_has_allowed_is_told_with_its_package(
    declared: list[dict[str, Any]], refused: list[str]
) -> None:
    assert licences.faults(bill(*declared)) == [f"thing 1.0: {each}" for each in refused]


def test_every_licence_is_allowed_for_a_reason() -> None:
    assert all(reason.strip() for reason in licences.ALLOWED.values())


# What is known against them


SAFE = {"name": "safe", "version": "1.0", "vulns": []}
HOLED = {
    "name": "holed",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
UNKNOWN = {"name": "flask", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def test_packages_that_nothing_is_known_against_pass() -> None:
    assert audit.judged([SAFE, SAFE]) == "none known of 2 packages"


def test_what_is_known_is_told_with_the_mend() -> None:
    with pytest.raises(audit.Fault) as fault:
        audit.judged([SAFE, HOLED])

    assert str(fault.value).splitlines() == [
        "holed 2.0: PYSEC-1, mended in 2.1",
        "holed 2.0: PYSEC-2, mended in no version",
    ]


@pytest.mark.parametrize("answers", [[UNKNOWN], [SAFE, UNKNOWN], []], ids=["none", "some", "empty"])
def test_a_service_that_has_not_answered_is_no_pass(answers: list[dict[str, Any]]) -> None:
    """pip-audit itself says "No known vulnerabilities found" then, and exits with 0."""
    with pytest.raises(audit.Fault, match="NOT CHECKED"):
        audit.judged(answers)


def test_a_pip_audit_that_could_not_ask_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        returncode, stdout, stderr = 1, "", "Traceback\nConnectionError: no route"

    monkeypatch.setattr(audit, "_run", lambda *_: Broken)

    with pytest.raises(audit.Fault, match="NOT CHECKED: pip-audit could not ask.\nConnectionError"):
        audit.vulnerabilities()


def test_one_fault_fails_the_audit_and_the_other_checks_are_done_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> str:
        raise audit.Fault("a\nb")

    failed = audit.audit([("first", fails), ("second", lambda: "good")])

    assert failed == 1
    assert capsys.readouterr().out == "FAIL  first:\n      a\n      b\nok    second: good\n"
