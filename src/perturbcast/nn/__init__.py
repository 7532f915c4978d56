"""Building blocks of the networks: torch is imported here, so nothing below or beside imports this folder."""
