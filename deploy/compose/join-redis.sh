#!/bin/sh
# Joins Redis servers to a cluster, unless they are one. Usage: join-redis.sh HOST...
set -eu
first=$1
port=${REDIS_PORT:-6379}
if redis-cli -h "$first" -p "$port" cluster info | grep -q '^cluster_state:ok'; then
  echo "the cluster is complete"
  exit 0
fi
addresses=
for host in "$@"; do
  # A cluster names its nodes by address, not by host name.
  address=$(getent hosts "$host" | awk '{ print $1; exit }')
  addresses="$addresses $address:$port"
done
# shellcheck disable=SC2086
redis-cli --cluster create $addresses --cluster-yes
