"""How long certificates are valid, in days."""

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825
LONGEST_DAYS = 1_000_000  # the dates of certificates end with the year 9999
