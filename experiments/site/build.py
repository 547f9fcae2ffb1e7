"""The build of the site: sources in a temporary folder, then pages that replace the old ones at once."""

import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from experiments import catalog, cli
from experiments.site import api, pages, results

# Style and scripts of the pages; reports sort their tables by the same script.
_STATIC = ("experiments/site/site.css", "experiments/site/site.js", "jaxdrop/_report/sort.js")
# The list of what a site holds, by which a later build knows what it may replace.
_CONTENTS = ".contents"
# What Furo's pages lack for readers who do not see them.
_MENDED = (
    ('role="heading">', 'role="heading" aria-level="2">'),
    ('<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Pages">'),
    ('<aside class="toc-drawer', '<aside aria-label="On this page" class="toc-drawer'),
)
_SETTINGS = {
    "project": "jaxdrop",
    "html_title": "jaxdrop",
    "html_theme": "furo",
    "html_theme_options": {
        "light_css_variables": {"color-brand-primary": "#0b57a4", "color-brand-content": "#0b57a4"},
        "dark_css_variables": {"color-brand-primary": "#8ab8ff", "color-brand-content": "#8ab8ff"},
    },
    "extensions": [
        "myst_parser",
        "sphinx.ext.autodoc",
        "sphinx.ext.napoleon",
        "sphinx.ext.viewcode",
        "experiments.site.api",
        "experiments.site.build",
    ],
    "exclude_patterns": ["source/**/*.py"],
    "default_role": "py:obj",
    "highlight_language": "none",
    "myst_heading_anchors": 6,
    "napoleon_attr_annotations": False,
    "napoleon_use_ivar": True,
    "toc_object_entries_show_parents": "hide",
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_copyright": False,
    "html_show_search_summary": False,  # it is fetched, which a browser refuses for files
}


def write_sources(folder: Path, modules: Sequence[str]) -> None:
    """Writes what Sphinx reads.

    Args:
      folder: An empty folder.
      modules: Public modules with a page of their own.
    """
    sources: set[Path] = set()
    for file, name in pages.files().items():
        text, more = pages.converted(file)
        sources |= more
        text += _contents(modules) if name == "index" else ""
        _write(folder / f"{name}.md", text)
        for picture in pages.pictures(file):
            _copy(picture.file, folder / picture.file)
    _write(folder / "results.md", results.page())
    for file in sources:
        if file.suffix in pages.PICTURES:
            _copy(file, folder / file)
            continue
        _write(folder / "source" / f"{file}.rst", pages.source(file))
        _copy(file, folder / "source" / file)
    for name in modules:
        _write(folder / "api" / f"{name}.rst", api.page(name))
    _write(folder / "api" / "types.rst", api.types())
    for name in _STATIC:
        _copy(Path(name), folder / "_static" / Path(name).name)


def build(out: Path, modules: Sequence[str] | None = None) -> None:
    """Builds the site and replaces an older one.

    Args:
      out: The folder of the site.
      modules: Public modules with a page; None: all.

    Raises:
      BadInputError: If `out` has other files or holds the current folder, or a page has a dead link or is not
        well formed.
    """
    out = out.resolve()
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as work:
        folder = Path(work)
        write_sources(folder / "sources", list(api.modules()) if modules is None else modules)
        _run(folder)
        new, old = folder / "html", folder / "old"
        (new / _CONTENTS).write_text("\n".join([_CONTENTS, *_names(new)]))
        check_out(out)  # again: the build takes its time
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise


def check_out(out: Path) -> None:
    """Checks that a folder is missing, empty or an older site without other files."""
    if not out.exists():
        return
    listed = out / _CONTENTS
    own = listed.read_text().splitlines() if listed.is_file() else []
    other = sorted(set(_names(out)) - set(own))
    if other or not out.is_dir():
        beside = f", which has {other[0]}" if other else ""
        raise cli.BadInputError(
            f"`out` must be a new or empty folder or a site of this command, got {out}{beside}."
        )
    if Path.cwd().is_relative_to(out):
        raise cli.BadInputError(f"`out` must not hold the current folder, which is replaced, got {out}.")


def _names(folder: Path) -> list[str]:
    """The names of all that is in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def setup(app: Sphinx) -> None:
    """Sphinx's hook of an extension: style and script, tables that sort."""
    app.add_css_file("site.css")
    app.add_js_file("sort.js", loading_method="defer")
    app.add_js_file("site.js", loading_method="defer")
    app.connect("doctree-resolved", _mark_tables)


def _run(folder: Path) -> None:
    """Runs Sphinx from `sources` to `html`."""
    warnings = io.StringIO()
    sources, settings = folder / "sources", dict(_SETTINGS)
    settings["html_static_path"] = [str(sources / "_static")]
    files = sum(path.suffix in (".md", ".rst") for path in sources.rglob("*"))
    bar, task = cli.progress("pages", 2 * files)
    with patch_docutils(), docutils_namespace(), bar:
        app = Sphinx(
            sources,
            None,
            folder / "html",
            folder / "trees",
            "html",
            confoverrides=settings,
            status=None,
            warning=warnings,
        )
        app.connect("source-read", lambda *_: bar.advance(task))
        app.connect("html-page-context", lambda *_: bar.advance(task))
        app.build()
        bar.update(task, completed=2 * files)
    problems = re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue()).replace(f"{sources}/", "").splitlines()
    if problems:
        for problem in problems:
            cli.say(problem)
        raise cli.BadInputError(f"pages must have no problems, got {len(problems)}, such as: {problems[0]}")
    for page in (folder / "html").rglob("*.html"):
        text = page.read_text()
        for old, new in _MENDED:
            text = text.replace(old, new)
        page.write_text(text)


def _contents(modules: Sequence[str]) -> str:
    """The lists of pages beside each page."""
    names = list(pages.files().values())
    parts = {
        "Results": ["results", *(f"experiments/{entry.name}/index" for entry in catalog.entries())],
        "Guides": [name for name in names if name.startswith("jaxdrop/")] + ["experiments/index"],
        "API": [f"api/{name}" for name in (*modules, "types")],
    }
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(listed) + "\n```\n"
        for caption, listed in parts.items()
    )


def _mark_tables(app: Sphinx, tree: nodes.document, name: str) -> None:
    """Marks the tables for the script that sorts them, and names columns without a heading."""
    del app, name
    for table in tree.findall(nodes.table):
        table["classes"].append("sortable")
        for heading in (entry for head in table.findall(nodes.thead) for entry in head.findall(nodes.entry)):
            if not heading.astext().strip():
                heading.children = []
                heading += nodes.paragraph("", "", nodes.inline("", "Row", classes=["hidden-text"]))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(pages.ROOT / file, target)
