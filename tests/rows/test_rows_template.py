import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.errors import UsageError
from halfrate.rows.template import after_head, parse_template, whole_words


@pytest.mark.parametrize(
    ("text", "literals", "columns"),
    [
        ("{text}", ("", ""), ("text",)),
        ("Classify: {text}!", ("Classify: ", "!"), ("text",)),
        ("{a}{b}{a}", ("", "", "", ""), ("a", "b", "a")),
        ("{first name} {Größe}", ("", " ", ""), ("first name", "Größe")),
        ('As JSON: {"label": "x"}. {text}', ('As JSON: {"label": "x"}. ', ""), ("text",)),
        ("{{literal}} {x}", ("{literal} ", ""), ("x",)),
        ("no column", ("no column",), ()),
        ("{} {\n} {x", ("{} {\n} {x",), ()),
    ],
)
def test_literals_and_columns(text: str, literals: tuple[str, ...], columns: tuple[str, ...]) -> None:
    parsed = parse_template(text)
    assert parsed.literals == literals
    assert parsed.columns == columns


@pytest.mark.parametrize("text", ["", "  \n"])
def test_blank_prompts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        parse_template(text)


@given(st.text(min_size=1).filter(lambda text: bool(text.strip())))
def test_any_text_can_be_written_as_a_literal(text: str) -> None:
    parsed = parse_template(text.replace("{", "{{").replace("}", "}}"))
    assert parsed.literals == (text,)
    assert parsed.columns == ()


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("Read the rules. Classify: {text}", "Read the rules. "),
        ("Classify: {text}", ""),
        ("{text} is what?", ""),
        ("Rules:\n  one\n\n{text}", "Rules:\n  "),
        ("   Rules {text}", ""),
        ("a {{b}} c {text}", "a {b} "),
    ],
)
def test_how_a_prompt_begins_for_every_row(text: str, head: str) -> None:
    parsed = parse_template(text)
    assert whole_words(parsed.literals[0]) == head
    rest = after_head(parsed, head)
    assert head + rest.literals[0] == parsed.literals[0]
    assert (rest.columns, rest.literals[1:]) == (parsed.columns, parsed.literals[1:])
    if head:
        assert rest.literals[0].strip()
