"""The build of the site: whole or not at all."""

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


def test_a_site_replaces_an_older_one_whole_or_not_at_all(small, tmp_path, capsys):
    out = tmp_path / "deep" / "site"
    build.build(out, [])
    assert "First" in (out / "index.html").read_text()
    assert (out / "source" / "more.py.html").exists()
    head = (out / "index.html").read_text().partition("<tbody")[0]
    assert '<span class="hidden-text">Row</span>' in head
    assert 'role="heading">' not in head

    (small / "README.md").write_text("# Second\n\n[a](#nowhere)\n")
    with pytest.raises(cli.BadInputError, match=r"pages must have no problems, got 1, such as: index\.md:3"):
        build.build(out, [])
    assert "nowhere" in capsys.readouterr().out
    assert "First" in (out / "index.html").read_text()

    (small / "README.md").write_text("# Third\n")
    (out / "source").rename(out / "left")
    build.build(out, [])
    assert "Third" in (out / "index.html").read_text()
    assert not (out / "left").exists()
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(cli.BadInputError, match="`out` must be a new or empty folder"):
            build.build(out, [])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    build.check_out(tmp_path / "new")
