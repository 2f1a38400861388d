#!/bin/sh
# For /docker-entrypoint.d of nginx's image: its workers may read what the servers' group may.
set -e
grep -q '^astrbot-api:' /etc/group || echo 'astrbot-api:x:10001:nginx' >>/etc/group
