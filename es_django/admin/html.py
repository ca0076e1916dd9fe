"""Small pieces of HTML that several pages use."""

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

MAX_ERROR_CHARACTERS = 10_000

# Each status differs from the others by its word and its shape, because some users cannot distinguish tones (colors).
_SHAPES = {
    "pending": ("○", "quiet"),
    "discarded": ("⊘", "quiet"),
    "paused": ("‖", "quiet"),
    "claimed": ("◐", "busy"),
    "handling": ("◐", "busy"),
    "rebuilding": ("↻", "busy"),
    "retrying": ("↻", "busy"),
    "published": ("✓", "good"),
    "handled": ("✓", "good"),
    "running": ("✓", "good"),
    "inline": ("✓", "good"),
    "dead": ("✕", "bad"),
    "failed": ("✕", "bad"),
}


def status_badge(status: str) -> SafeString:
    """Return a status as a word with a shape."""
    shape, tone = _SHAPES.get(status, ("○", "quiet"))
    return format_html(
        '<span class="es-status es-{}"><span aria-hidden="true">{}</span> {}</span>', tone, shape, status.capitalize()
    )


def time_element(value: datetime, *, precise: bool = False) -> SafeString:
    """Return a time in the current time zone, to the second, or to the millisecond if `precise`."""
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return format_html(
        '<time datetime="{}" class="es-time">{} {}{} <span class="es-zone">{}</span></time>',
        value.isoformat(),
        local.strftime("%Y-%m-%d"),
        local.strftime("%H:%M:%S"),
        f".{local.microsecond // 1000:03}" if precise else "",
        local.tzname() or "",
    )


def code(text: object) -> SafeString:
    """Return an identifier in a font that distinguishes 0 from O."""
    return format_html('<code class="es-code">{}</code>', text)


def error_text(text: str) -> SafeString | None:
    """Return the text of an error with its line breaks; None for an empty text."""
    return format_html('<pre class="es-error" tabindex="0">{}</pre>', text[:MAX_ERROR_CHARACTERS]) if text else None


def amount(count: int, *, at_least: bool = False) -> str:
    """Return a number with thousands separators, and with a plus sign if it is a lower bound."""
    return f"{count:,}{'+' if at_least else ''}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as `2 h 5 min`."""
    rest, parts = max(0, round(seconds)), []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, length)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"
