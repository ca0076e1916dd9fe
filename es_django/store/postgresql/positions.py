"""How PostgreSQL's statements read the position that was drawn last."""

LAST_DRAWN = "coalesce(pg_sequence_last_value('es_django_event_position_seq'), 0)"
"""An expression; 0 if none was drawn. It waits while another session draws. As a column of the sequence, which does not
wait, the value is up to 32 too high for a moment: nextval writes down what it logs, that it may have gone so far, and
then puts it right. A floor or an end of the log that is too high would let readers pass events by."""
