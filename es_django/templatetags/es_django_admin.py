from typing import Any

from django import template

from es_django.admin.overview import Overview

register: template.Library = template.Library()


@register.simple_tag(takes_context=True)
def es_django_overview(context: template.RequestContext, app_list: list[dict[str, Any]]) -> Overview:
    """How everything is, as far as the user of the page may view it: `app_list` is what an admin site shows to them."""
    visible = {model["model"] for app in app_list for model in app["models"] if model["perms"].get("view")}
    return Overview(context.request, visible)
