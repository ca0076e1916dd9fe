"""The names of the users in the metadata of events, which holds only their primary keys."""

from collections.abc import Iterable
from contextlib import suppress

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from es_django import conf

LARGEST_KEY = 2**63 - 1


def names_of(users: Iterable[str]) -> dict[str, str]:
    """Return the user name for each primary key that a user has. Make one query, or none without a possible key."""
    if conf.settings().metadata_user != conf.PRIMARY_KEY_OF_USER:
        return {}
    model = get_user_model()
    keys = set()
    for user in users:
        with suppress(ValidationError, ValueError, TypeError):
            key = model._meta.pk.to_python(user)
            if not isinstance(key, int) or abs(key) <= LARGEST_KEY:
                keys.add(key)
    found = model._default_manager.filter(pk__in=keys) if keys else ()
    return {str(user.pk): user.get_username() for user in found}


def shown_user(user: str, names: dict[str, str]) -> str:
    """Return the user's name and key, or the key alone if nobody has it."""
    return f"{names[user]} ({user})" if user in names else user
