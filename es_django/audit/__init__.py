"""Audits a database: whether what is stored keeps what the store promises.

The constraints see to that, and so does the store, for as long as nobody goes behind their backs. A restore, a copy by
hand or a migration of somebody's own can: after one of these, look.
"""

from es_django.audit.findings import Finding as Finding
from es_django.audit.verify import STEPS as STEPS
from es_django.audit.verify import Audit as Audit
