"""The build of the site: whole or not at all."""

import pathlib

import pytest

from experiments import cli
from experiments.site import api, build, pages, results


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A repository of two pages."""
    root = tmp_path / "root"
    for name in build._STATIC:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((pages.ROOT / name).read_text())
    (root / "README.md").write_text("# First\n\n[more](more.py)\n\n| | b |\n| --- | --- |\n| 1 | 2 |\n")
    (root / "more.py").write_text("x = 1\n")
    monkeypatch.setattr(pages, "ROOT", root)
    monkeypatch.setattr(results, "page", lambda: "# Results\n")
    monkeypatch.setattr(build.catalog, "entries", list)
    monkeypatch.setattr(build, "_contents", lambda _: "\n```{toctree}\nresults\napi/types\n```\n")
    monkeypatch.setattr(api, "types", lambda: "Types\n=====\n")
    return root


@pytest.mark.slow
def test_a_site_replaces_an_older_one_whole_or_not_at_all(small, tmp_path, capsys):
    out = tmp_path / "deep" / "site"
    build.build(out, [])
    assert "First" in (out / "index.html").read_text()
    assert (out / "source" / "more.py.html").exists()
    head = (out / "index.html").read_text().partition("<tbody")[0]
    assert '<span class="hidden-text">Row</span>' in head
    assert 'role="heading">' not in head

    (small / "README.md").write_text("# Second\n\n[a](nowhere.md)\n")
    with pytest.raises(cli.BadInputError, match=r"pages must have no problems, got 1, such as: index\.md:3"):
        build.build(out, [])
    assert "nowhere" in capsys.readouterr().out
    assert "First" in (out / "index.html").read_text()

    (small / "README.md").write_text("# Third\n")
    build.build(out.parent / "other" / ".." / "site", [])
    assert "Third" in (out / "index.html").read_text()
    assert not (out / "source" / "more.py.html").exists()
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(cli.BadInputError, match="`out` must be a new or empty folder"):
            build.build(out, [])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    build.check_out(tmp_path / "new")


def test_files_beside_those_of_a_site_and_the_current_folder_are_kept(small, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_run", lambda folder: (folder / "html").mkdir())
    out = tmp_path / "site"
    build.build(out, [])
    build.build(out, [])
    with monkeypatch.context() as inside:
        inside.chdir(out)
        with pytest.raises(cli.BadInputError, match="`out` must not hold the current folder"):
            build.build(pathlib.Path(), [])
    (out / ".git").mkdir()
    with pytest.raises(cli.BadInputError, match=r"a site of this command, got .*, which has \.git\."):
        build.build(out, [])
    (out / ".git").rmdir()
    rename = pathlib.Path.rename

    def failing(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        if path.name == "html":
            raise OSError("disk")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", failing)
    with pytest.raises(OSError, match="disk"):
        build.build(out, [])
    build.check_out(out)
    assert list(out.iterdir()) == [out / build._CONTENTS]
