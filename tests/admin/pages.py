"""Read the rows, links, times and texts of an HTML page by the classes of its elements."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "path", "source", "wbr"}


class Element:
    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element | str] = []

    def __iter__(self) -> Iterator["Element"]:
        """Yield all elements inside this one, in the order of the page."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child

    @property
    def raw_text(self) -> str:
        return "".join(child if isinstance(child, str) else child.raw_text for child in self.children)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", self.raw_text).strip()

    def all(self, selector: str) -> list["Element"]:
        """Return the elements with a tag, with a `.class`, or with both, as in `td.field-key`."""
        tag, _, wanted = selector.partition(".")
        return [
            each
            for each in self
            if tag in ("", each.tag) and (not wanted or wanted in each.attributes.get("class", "").split())
        ]

    def one(self, selector: str) -> "Element":
        found = self.all(selector)
        assert len(found) == 1, f"{selector}: {len(found)} found"
        return found[0]


class Page(Element):
    def __init__(self, html: str) -> None:
        super().__init__("page", {})
        self.html = html
        _Builder(self).feed(html)

    @property
    def title(self) -> str:
        return self.one("title").text

    @property
    def breadcrumbs(self) -> list[str]:
        # Breadcrumbs are a list, or, in older templates of Django, text with separators.
        trail = self.one(".breadcrumbs")
        return [step.text for step in trail.all("li")] or trail.text.split(" \u203a ")

    @property
    def facts(self) -> dict[str, str]:
        return {pair.one("dt").text: pair.one("dd").text for pair in self.one("dl.es-facts").all("div")}

    def column(self, name: str) -> list[str]:
        """Return the cells of a list's column, from top to bottom."""
        return [cell.text for cell in self.all(f".field-{name}")]

    def link(self, text: str) -> str | None:
        """Return the address of the first link with this text, or None without such a link."""
        return next((each.attributes["href"] for each in self.all("a") if each.text == text), None)

    def follow(self, url: str, text: str) -> str:
        """Return the absolute address of a link on the page at `url`."""
        target = self.link(text)
        assert target is not None, f"no link {text!r}"
        return url.partition("?")[0] if target == "?" else urljoin(url, target)


class _Builder(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.open: list[Element] = [page]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if any(element.tag == tag for element in self.open[1:]):
            while self.open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)
