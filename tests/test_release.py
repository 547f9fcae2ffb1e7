"""The release: what a package index shows of it, and files that must say the same."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# A reserved name that no one can own. With an address, replace it here and in pyproject.toml.
PLACEHOLDER = "https://jaxdrop.example"


def test_project_urls_are_placeholders_until_the_project_has_an_address():
    text = (ROOT / "pyproject.toml").read_text()
    addresses = re.findall(r"https?://[^\s\"'\\]+", text)
    assert set(PROJECT["urls"].values()) <= set(addresses)
    assert all(address.startswith(PLACEHOLDER) for address in addresses)


def test_links_of_the_long_description_stand_alone():
    """An index shows the README without the repository: each link is absolute, or an anchor of the page."""
    text = importlib.metadata.metadata("jaxdrop").get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", str(text))
    readme = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())
    assert len(links) == len(readme), "install the project again: its metadata is older than README.md"
    for link, written in zip(links, readme, strict=True):
        assert link.startswith(("https://", "#")), link
        if not written.startswith(("https://", "#")):
            assert (ROOT / written.partition("#")[0]).exists()
            shown = "raw" if written.endswith(".png") else "blob"
            assert link == f"{PLACEHOLDER}/repository/{shown}/main/{written}"


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "jaxdrop" / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["title"].startswith("jaxdrop:")
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in PROJECT["authors"]]
    changes = (ROOT / "jaxdrop" / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+?),? ", changes, re.MULTILINE)[0] == PROJECT["version"]
    assert importlib.metadata.version("jaxdrop") == PROJECT["version"]


def test_it_is_typed_and_says_which_pythons():
    assert (ROOT / "jaxdrop" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
    pythons = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    script = (ROOT / ".ci" / "run").read_text()
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert [pythons[0], pythons[-1]] == re.findall(r"\brun \w+ (3\.\d+)", script)


def test_what_the_default_run_of_the_tests_leaves_out_is_run_by_ci():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    script = (ROOT / ".ci" / "run").read_text()
    (left_out,) = re.findall(r"-m 'not (\w+)'", options)
    assert f"-m pytest -x -m {left_out})" in script
    assert re.search(rf"^{left_out} newest$", script, re.MULTILINE)


def test_the_wheel_has_the_library_alone():
    """The extras of the experiments and the tests are said to be for a checkout."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert settings["wheel"]["packages"] == ["jaxdrop"]
    readme = (ROOT / "README.md").read_text()
    assert "in a checkout alone; the extras `experiments` and `test`" in readme
    assert {"experiments", "test"} <= set(PROJECT["optional-dependencies"])
