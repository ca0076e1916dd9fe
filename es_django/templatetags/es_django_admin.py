from typing import Any

from django import template

from es_django.admin.overview import Overview

register: template.Library = template.Library()


@register.simple_tag(takes_context=True)
def es_django_overview(context: template.RequestContext, app_list: list[dict[str, Any]]) -> Overview:
    """Return the overview of the models in `app_list` that the user may view."""
    visible = {model["model"] for app in app_list for model in app["models"] if model["perms"].get("view")}
    return Overview(context.request, visible)
