"""Pages of the API."""

import inspect

import jaxdrop
from experiments.site import api
from jaxdrop import mc, training
from tests.test_doors import PUBLIC


def test_every_public_name_has_an_entry():
    for name, module in api.modules().items():
        text = api.page(name)
        for full in api.public()[name]:
            assert f":: {full}\n" in text, full
            assert f"<{full}>`" in text, full
        assert len(api.public()[name]) == len(module.__all__)
    modules = {module.__name__ for module in api.modules().values()}
    assert {module.__name__ for module in PUBLIC} - modules <= {"jaxdrop", "jaxdrop.__main__"}
    flat = {full.removeprefix("jaxdrop.") for name in ("drops", "masks") for full in api.public()[name]}
    assert set(jaxdrop.__all__) == flat | (set(api.modules()) - {"drops", "masks", "plots"})


def test_signatures_are_those_of_the_source():
    arguments, result = api.signature(jaxdrop.spatial_dropout)
    assert arguments == "(key: Key, x: ArrayLike, rate: Rate, *, channel_axis: int=-1, bits: Bits=None)"
    assert result == "jax.Array"
    assert api.signature(jaxdrop.linen.Dropout)[0].startswith("(rate: Rate")
    assert "parent" not in api.signature(jaxdrop.linen.Dropout)[0]
    assert api.signature(jaxdrop.nnx.Dropout)[0].startswith("(rate: Rate")
    assert "self" not in api.signature(jaxdrop.nnx.Dropout)[0]
    assert api.signature(mc.State)[0].startswith("(")
    assert "state" in api.signature(training.TrainState)[0]


def test_every_class_and_function_has_a_readable_signature():
    for name, module in api.modules().items():
        for public in module.__all__:
            value = getattr(module, public)
            if inspect.isclass(value) or inspect.isfunction(value):
                text = "".join(filter(None, api.signature(value)))
                assert "<" not in text.replace("<factory>", ""), (name, public, text)
                assert "typing." not in text, (name, public, text)


def test_markdown_in_docstrings_is_read():
    lines = ['of `jax.Array`s, or one ("encoder/*")', '>>> f("*")', 'is `f({"*": 1})`']
    api._read(None, "function", "f", None, None, lines)  # pyright: ignore[reportArgumentType]
    assert lines == [r"of `jax.Array`\ s, or one (" + r'"encoder/\*")', '>>> f("*")', 'is `f({"*": 1})`']


def test_types_are_shown_with_their_comments():
    text = api.types()
    assert "   # The probability of dropping, in [0, 1].\n   Rate = Numeric" in text


def test_values_are_told_by_their_comments():
    told = "Colors that color-blind readers can tell apart."
    assert f"<jaxdrop.plots.PALETTE>`\n     - {told}" in api.page("plots")
    lines = list(inspect.getdoc(()).splitlines())
    api._commented(None, "data", "jaxdrop.plots.PALETTE", (), None, lines)  # pyright: ignore[reportArgumentType]
    assert lines[0].startswith(told[:-1])
    assert len(lines) == 2


def test_signatures_of_protocols_and_of_methods_that_return_their_class():
    assert api.signature(mc.Reducer) == ("", None)
    assert api.signature(mc.SWAG.update, method=True) == ("(params: PyTree)", "SWAG")
