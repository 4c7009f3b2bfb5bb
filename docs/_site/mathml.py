"""Formulas as MathML, which browsers show by themselves, without a script or the network."""

import html
import re

import latex2mathml.converter

# A function of what has no bracket, from which the converter sets it apart by no space.
_FUNCTION = re.compile(r"\\(log|exp|sin|cos|arctan|arccos|det)\s+(?=\w|\\(?![bB]ig|left|,))")


def _visit(translator, node, display: str) -> None:
    # A formula that cannot be read is an error of the build, and not a blank on the page.
    spaced = _FUNCTION.sub(r"\\\1\\, ", node.astext())
    formula = latex2mathml.converter.convert(spaced, display=display)
    tag = "div" if display == "block" else "span"
    label = html.escape(node.astext(), quote=True)
    translator.body.append(f'<{tag} class="formula" title="{label}">{formula}</{tag}>')


def setup(app) -> dict:
    """Replaces what the HTML builder makes of `math` nodes."""
    from docutils import nodes

    def inline(translator, node):
        _visit(translator, node, "inline")
        raise nodes.SkipNode

    def block(translator, node):
        _visit(translator, node, "block")
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
