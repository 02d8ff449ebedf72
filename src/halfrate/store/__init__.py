"""What halfrate remembers: jobs, shards, batches and payments, in one SQL database.

store        what the rest of halfrate calls: one method, one transaction
sql          every statement, under a name
migrate      brings a database to this version's tables
migrations/  the tables themselves, as numbered SQL files
connector    the seam between statements and a driver
sqlite       SQLite behind that seam
"""
