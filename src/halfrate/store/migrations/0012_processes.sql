-- What tells processes of several machines apart that work over one database and one depot.

-- What the database itself is called, so that two of them never share a depot; and its depot, once it has had one.
CREATE TABLE identity (
    kind TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL
);

-- Until when a process is taken to live (seconds since 1970). Where processes share a disk their locks say so.
CREATE TABLE process (
    name TEXT NOT NULL PRIMARY KEY,
    alive_until DOUBLE PRECISION NOT NULL
);
