#!/bin/sh
# For /docker-entrypoint.d of nginx's image: adds its workers to the servers' group.
set -e
grep -q '^astrbot-api:' /etc/group || echo 'astrbot-api:x:10001:nginx' >>/etc/group
