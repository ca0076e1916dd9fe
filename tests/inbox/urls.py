from django.urls import include, path

urlpatterns = [path("events/", include("es_django.urls"))]
