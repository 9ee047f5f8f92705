"""The templates of the HTML pages: what is inserted is text, and a mistake in a template is an error."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from rewards.report_samples import parse
from worldr1_core.pages.axes import Axes, Shape, draw_panel
from worldr1_core.pages.templating import breakable
from worldr1_rewards.report.templating import render


def test_what_is_inserted_is_text_unless_a_template_made_it() -> None:
    hostile = '<b onload="x">\'&amp;\x00\ud800'
    heading = render("probe_heading.html.j2", title=hostile)
    assert parse(heading).text == '<b onload="x">\'&amp;\ufffd\ufffd'
    assert "&lt;b" in render("probe_heading.html.j2", title=heading.striptags())
    assert render("probe_heading.html.j2", title=Markup("<i>x</i>")).count("<i>") == 1


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("probe_heading.html.j2")


def test_names_may_wrap_after_punctuation() -> None:
    assert breakable("a/b_c<d>.mp4") == "a/<wbr>b_<wbr>c&lt;d&gt;.<wbr>mp4"


def test_words_of_a_panel_are_text() -> None:
    panel = draw_panel(
        "<t>", "<d>", Axes((0, 1), (0, 1)), [Shape("circle", {"r": '"1"'})], x_label="<x>", y_label="<y>"
    )
    (drawing,) = parse(panel).find("svg")
    assert drawing.attributes["aria-label"] == "<d>"
    words = [text.text for text in drawing.find("text")]
    assert words[0] == "<t>"
    assert words[-2:] == ["<x>", "<y>"]
    assert drawing.find("circle")[0].attributes == {"r": '"1"'}
