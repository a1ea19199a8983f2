"""HTML as its tags say: what a browser would have to guess is an error."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "input", "br", "hr", "img", "rect", "line"}


class Document(HTMLParser):
    """A document whose tags balance.

    Parameters
    ----------
    text : str

    Attributes
    ----------
    elements : list of (str, dict)
        The tag and the attributes of every element.
    texts : list of str
        All text outside of style and script.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that the last open element is closed."""
        assert self._open, f"</{tag}> closes nothing"
        last = self._open.pop()
        assert last == tag, f"</{tag}> closes <{last}>"

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if not {"style", "script"} & set(self._open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All text."""
        return "".join(self.texts)

    def values(self, attribute: str) -> list[str]:
        """The values of an attribute, in the order of the document."""
        return [value for _, found in self.elements if (value := found.get(attribute)) is not None]

    def of(self, *tags: str) -> list[tuple[str, dict[str, str | None]]]:
        """The elements with these tags."""
        return [element for element in self.elements if element[0] in tags]
