"""fl-sim: many virtual clients in one machine, and real federations under faults."""
