"""Where messages are received: `path("events/", include("es_django.urls"))`."""

from django.urls import path

from es_django.inbox.ingress import ingress

app_name = "es_django"
urlpatterns = [path("", ingress, name="ingress")]
