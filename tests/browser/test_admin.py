"""The admin's pages work in a real browser, in the steps of an operator."""

import pytest
from playwright.sync_api import Page, expect

from es_django.models import OutboxMessage, StoredEvent, Stream
from tests.admin.builders import list_url, message, notes, page_url, stored_event, stream_of
from tests.browser.conftest import Browse

pytestmark = pytest.mark.django_db(transaction=True)


def box_height(page: Page, selector: str) -> float:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return box["height"]


# contrast by the formula of WCAG 2
CONTRASTS = """
() => {
    const luminance = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const background = element => {
        const color = getComputedStyle(element).backgroundColor;
        return color === "rgba(0, 0, 0, 0)" ? background(element.parentElement) : color;
    };
    return [...document.querySelectorAll(".es-status")].map(element => {
        const one = luminance(getComputedStyle(element).color), other = luminance(background(element));
        return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    });
}
"""


class TestNavigation:
    def test_links_lead_from_streams_to_an_event_and_the_outbox(self, browse: Browse) -> None:
        notes(30, key="Case 1", category="ticket", user="ada")
        for key in ("Case 2", "Case 3"):
            notes(key=key, category="ticket")
        sent = message("dead", stream=stream_of("Case 1", "ticket"), stream_version=27)
        with browse() as page:
            page.goto("/admin/")
            page.get_by_role("link", name="Streams").first.click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Streams")
            page.get_by_role("textbox", name="Search").fill("Case 1")
            page.get_by_role("button", name="Search").click()
            expect(page.locator("#result_list tbody tr")).to_have_count(1)

            page.get_by_role("link", name="Case 1").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("ticket Case 1")
            expect(page.locator(".es-timeline > li")).to_have_count(25)
            page.get_by_role("navigation", name="Pages of events, bottom").get_by_role("link", name="Newer").click()
            expect(page.locator(".es-timeline > li")).to_have_count(5)
            expect(page.locator("#v30")).to_contain_text("note 30")

            page.locator("#v27 h3 a").click()
            expect(page.get_by_role("group", name="Payload")).to_contain_text('"note": "note 27"')
            expect(page.get_by_role("group", name="Metadata")).to_contain_text('"user": "ada"')

            page.goto(list_url(OutboxMessage))
            page.get_by_role("link", name="Dead").click()
            page.get_by_role("link", name=sent.type).click()
            expect(page.locator(".es-facts")).to_contain_text("the mailbox is <full>")
            page.get_by_role("link", name="ticket Case 1 at version 27").click()
            expect(page.locator("#v27")).to_be_in_viewport()


class TestPayloads:
    def test_script_in_a_payload_does_not_run(self, browse: Browse) -> None:
        attack = "</pre><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
        notes(note=attack)
        stream, event = stream_of(), stored_event(1)
        with browse() as page:
            for row in (stream, event):
                page.goto(page_url(row))
                expect(page.locator("pre.es-json").first).to_contain_text("document.title = 'taken'")
                assert "taken" not in page.title()

    def test_large_payload_loads_quickly(self, browse: Browse) -> None:
        notes(note=[{"text": "x" * 80}] * 10_000)
        event = stored_event(1)
        with browse() as page:
            page.goto(page_url(event), timeout=5_000)
            expect(page.locator(".es-cut")).to_contain_text("The first")
            assert box_height(page, "pre.es-json") < 900

    def test_keyboard_scrolls_a_payload(self, browse: Browse) -> None:
        notes(note={f"line {n}": n for n in range(200)})
        event = stored_event(1)
        with browse() as page:
            page.goto(page_url(event))
            payload = page.get_by_role("group", name="Payload")
            last = payload.locator(".es-key").last
            expect(last).not_to_be_in_viewport()
            payload.focus()
            page.keyboard.press("End")
            expect(last).to_be_in_viewport()


class TestLayout:
    def test_pages_fit_a_narrow_screen(self, browse: Browse) -> None:
        notes(30, note="unbroken" * 100, key="k" * 200, user="u" * 200, correlation_id="c" * 200)
        sent = message("dead", last_error="e" * 500, key="k" * 200)
        urls = [list_url(Stream), page_url(stream_of("k" * 200)), page_url(stored_event(1, "k" * 200)), page_url(sent)]
        urls += [list_url(OutboxMessage), list_url(StoredEvent)]
        with browse(width=390) as page:
            for url in urls:
                page.goto(url)
                assert page.evaluate("document.documentElement.scrollWidth") <= 390, url

    @pytest.mark.parametrize("color_scheme", ["light", "dark"])
    def test_status_is_readable_in_each_color_scheme(self, browse: Browse, color_scheme: str) -> None:
        for status in ("pending", "claimed", "published", "dead"):
            message(status)
        with browse(color_scheme=color_scheme) as page:
            page.goto(list_url(OutboxMessage))
            expect(page.locator(".es-status")).to_have_count(4)
            for contrast in page.evaluate(CONTRASTS):
                assert contrast >= 4.5
