"""The shared part of the commands: functions by name, errors of one line, files written whole."""

import runpy
import sys
import tomllib
from pathlib import Path

import pytest

from jaxdrop import _commands
from jaxdrop.__main__ import main
from jaxdrop._commands import app


def test_a_function_by_name():
    assert app.load("json:dumps").__name__ == "dumps"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("json", "`problem` must be MODULE:FUNCTION, got 'json'."),
        (":dumps", "`problem` must be MODULE:FUNCTION, got ':dumps'."),
        ("jsoon:dumps", "`problem` must name a module that can be imported, got 'jsoon'."),
        ("json.no:dumps", "`problem` must name a module that can be imported, got 'json.no'."),
        ("json:dump_s", "`problem` must name a function of json, got 'dump_s'."),
        ("json:__name__", "`problem` must name a function of json, got '__name__'."),
    ],
)
def test_names_that_are_refused(name, words):
    with pytest.raises(app.BadInputError) as error:
        app.load(name)
    assert str(error.value) == words


def test_an_error_within_the_users_module_is_shown_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        app.load("needs_more:function")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file"
    app.write(path, b"first")
    assert path.read_bytes() == b"first"

    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no room"):
        app.write(path, b"second")
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("file", b"first")]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(app.BadInputError, match="`out` must be a folder that can be written to, got"):
            app.check_folder(path)
    assert app.check_folder(tmp_path / "new" / "below") == tmp_path / "new" / "below"
    assert not (tmp_path / "new").exists()


def test_refusals_of_the_library_are_told_from_errors_of_the_user():
    with pytest.raises(app.BadInputError) as error:
        app.load("json")
    assert not app.is_refusal(error.value)  # this file is a user's
    assert app.is_refusal(error.value.with_traceback(error.tb.tb_next))


def test_without_typer_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(ImportError, match=r"need typer and rich; run `pip install \"jaxdrop\[cli\]\"`"):
        runpy.run_path(app.__file__)
    monkeypatch.delitem(sys.modules, "jaxdrop._commands.app")
    monkeypatch.delattr(_commands, "app")
    with pytest.raises(SystemExit, match=r"^Error: The commands .* run `pip install \"jaxdrop\[cli\]\"`\.$"):
        main()


def test_the_program_completes_its_commands(monkeypatch, capsys):
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"jaxdrop": f"{main.__module__}:main"}
    monkeypatch.setenv("_JAXDROP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "jaxdrop tune --gr")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (0, "--grid\n")


def test_the_help_names_the_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxdrop", "--help"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert "Usage: jaxdrop [OPTIONS] COMMAND" in shown
    assert "--install-completion" in shown
