"""Audit a database: check that the stored data keep the guarantees of the store.

The store and the constraints of the database normally ensure this. A restore, a manual copy or a migration outside of
es_django can break it, so run an audit after one of these.
"""

from es_django.audit.findings import Finding as Finding
from es_django.audit.verify import STEPS as STEPS
from es_django.audit.verify import Audit as Audit
