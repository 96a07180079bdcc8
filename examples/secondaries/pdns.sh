#!/bin/sh
# PowerDNS as a secondary: makes the database of pdns.conf, with the zone, its key, and IXFR, which is off otherwise.
set -eu
sqlite3 /var/lib/powerdns/pdns.sqlite3 < /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql
pdnsutil create-secondary-zone svc.example.test 192.0.2.1:53
pdnsutil set-meta svc.example.test IXFR 1
pdnsutil import-tsig-key xfer hmac-sha256 "$(sed -n 's/.*secret "\(.*\)";/\1/p' xfer.key)"
pdnsutil activate-tsig-key svc.example.test xfer secondary
