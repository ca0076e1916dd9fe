"""The URL that receives messages. Route it with `path("events/", include("es_django.urls"))`."""

from django.urls import URLPattern, path

from es_django.inbox.ingress import ingress

app_name = "es_django"
urlpatterns: list[URLPattern] = [path("", ingress, name="ingress")]
