"""Several worker processes behind one port: a supervisor, and what its workers share."""
