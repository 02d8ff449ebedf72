"""Statements about a database and the processes that work over it; the rules are those of `sql`."""

from typing import Final

ADD_IDENTITY: Final = "INSERT INTO identity (kind, id) VALUES ('database', :id) ON CONFLICT DO NOTHING"
"""Names the database, unless it has its name."""

IDENTITY: Final = "SELECT id FROM identity WHERE kind = 'database'"
"""What the database is called."""

ADD_DEPOT: Final = "INSERT INTO identity (kind, id) VALUES ('depot', :id) ON CONFLICT DO NOTHING"
"""Records that files are kept in a depot."""

DEPOT: Final = "SELECT id FROM identity WHERE kind = 'depot'"
"""The first depot that was used."""

BEAT: Final = """
INSERT INTO process (name, alive_until) VALUES (:name, :until)
ON CONFLICT (name) DO UPDATE SET alive_until = :until
"""
"""Records until when a process is taken to live."""

DROP_PROCESSES: Final = "DELETE FROM process WHERE alive_until < :before"
"""Forgets processes that ended long ago."""

ALIVE_UNTIL: Final = "SELECT alive_until FROM process WHERE name = :name"
"""Until when a process is taken to live."""
