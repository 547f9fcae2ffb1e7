"""The words: American spelling, and phrases that are read once."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxdrop", "experiments", "tests")
FILES = [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
FILES += sorted(
    path for folder in FOLDERS for end in ("py", "md") for path in (ROOT / folder).rglob(f"*.{end}")
)
# This file holds the words that it looks for.
FILES.remove(Path(__file__))

BRITISH = (
    r"(?:normal|regular|standard|real|general|optim|initial|special|quant|random|penal|factor|author|organ"
    r"|minim|maxim|summar|vector|token|local|parametr|rasteri|synchron|visual|recogn|serial|material|lineari"
    r"|memor|util|categor|harmon|symmetr|equal|stabil|marginal|diagonal|character|emphas|crystall)"
    r"is(?:e|es|ed|er|ers|ing|ation|ations)\b",
    r"\bcolou",
    r"\b(?:behaviour|favour|neighbour|honour|labour|flavour|rumour|vapour)",
    r"\b(?:centre|metre|litre|fibre|theatre|grey|catalogue|programme|licence|defence|cheque|tyre)s?\b",
    r"\bcentred\b",
    r"\b(?:modell|labell|travell|cancell|signall|channell|levell)(?:ed|ing|er)\b",
    r"\banalys(?:e|es|ed|ing)\b",
    r"\b(?:whilst|amongst|learnt|spelt|burnt|artefact|judgement|ageing)s?\b",
)
GONE = (
    r"\bAs for `",
    r"[:;,] as for `",
    r"^\s+\w+: As `\w+`\.$",
    r"\bof its own\b",
    r"\bin the place of\b",
    r"\bare no (?:probabilities|weights|numbers|arrays)\b",
    r"Random bits an? (?:element|channel|decision|weight|unit|edge|head|word)\b",
    r"\bconcerns? (?:it|at least)\b",
    r"belongs? together goes? together",
    r"what samples say",
    r"for who comes from elsewhere",
    r"when there are samples enough",
    r"who is to be trusted",
    r"telling of out from in",
    r"in its stead",
    r"\bmade good\b",
    r"\blest\b",
)


def found(patterns: tuple[str, ...], text: str) -> list[str]:
    return [m.group() for p in patterns for m in re.finditer(p, text, re.IGNORECASE | re.MULTILINE)]


def in_files(patterns: tuple[str, ...]) -> str:
    """The files that have such words, a line each."""
    words = {path: found(patterns, path.read_text()) for path in FILES}
    return "\n".join(f"{path.relative_to(ROOT)}: {', '.join(some)}" for path, some in words.items() if some)


def test_american_spelling():
    wrong = in_files(BRITISH)
    assert not wrong, wrong


def test_phrases_that_are_gone():
    wrong = in_files(GONE)
    assert not wrong, wrong


def test_the_words_are_found():
    """The patterns find what they are for."""
    assert found(BRITISH, "It normalises the colour of neighbouring, labelled centres.") != []
    assert len(found(BRITISH, "normalise standardised realisation neighbour centre labelled behaviour")) == 7
    assert not found(
        BRITISH, "normalize, realized, neighbor, center, labeled, behavior, color, promise, size"
    )
    assert found(GONE, "rate: As for `dropout`.") != []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "jaxdrop").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_returns_are_not_read_as_types(path: Path):
    """Markdown tools read what stands before a colon in the first line of `Returns:` as a type."""
    for line in re.findall(r"^ +Returns:\n +(.*)$", path.read_text(), re.MULTILINE):
        assert not re.match(r"[^`]{0,40}?:\s", line), line
