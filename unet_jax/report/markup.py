"""Elements of HTML and SVG, written as text in which nothing that a name or a path holds can become markup."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from unet_jax.data.names import shown


def tag(name: str, /, *children: Element | str, **attributes: str | int | float | None) -> Element:
    """An element around its children, in order.

    Args:
        name: such as "td".
        children: elements, and texts, each on one line, which are escaped when written.
        attributes: "_" stands for "-" in a name, and one at its end is dropped: `class_`, `aria_label`.
            None leaves one out.
    """
    given = {key: value for key, value in attributes.items() if value is not None}
    element = Element(name, {key.rstrip("_").replace("_", "-"): shown(str(value)) for key, value in given.items()})
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + shown(child)
        else:
            element.text = (element.text or "") + shown(child)
    return element


def to_html(*elements: Element) -> str:
    """The elements as HTML."""
    return "\n".join(ElementTree.tostring(element, encoding="unicode", method="html") for element in elements)


def scrolling(table: Element, label: str) -> Element:
    """A table in a box of its own that scrolls where the page is too narrow, with the keyboard too."""
    return tag("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)
