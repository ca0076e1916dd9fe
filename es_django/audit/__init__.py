"""Audit a database: check that the stored data keep the guarantees of the store.

Normally the store and the constraints of the database keep these guarantees. A restore, a manual copy or a migration
outside of es_django can break them, so run an audit afterwards.
"""

from es_django.audit.findings import Finding as Finding
from es_django.audit.verify import STEPS as STEPS
from es_django.audit.verify import Audit as Audit
