from typing import Any

from django import template

from es_django.admin.overview import Overview

register = template.Library()


@register.simple_tag
def es_django_overview(app_list: list[dict[str, Any]]) -> Overview:
    """How everything is, as far as the user of the page may view it: `app_list` is what an admin site shows to them."""
    return Overview({model["model"] for app in app_list for model in app["models"] if model["perms"].get("view")})
