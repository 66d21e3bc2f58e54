#!/usr/bin/env bash
# Acquires a lease for 300 points, and settles the 250 that a calculation used.
# Usage: PASSWORD=... ./planner.sh URL LOGIN USERNAME
set -euo pipefail
url=$1 login=$2 username=$3

# Sends JSON. Prints the body of any answer: an error has a reason.
post() {
  curl --silent --show-error --max-time 10 -H "Authorization: Bearer ${token:-}" -H 'Content-Type: application/json' \
    --data-binary @- "$url$1"
}

# Prints a request to acquire points. A repeated request must have the same operation_id: the points are then charged once.
acquisition() {
  jq -n --arg username "$username" --argjson points "$1" --arg id "$(cat /proc/sys/kernel/random/uuid)" \
    '{$username, service: "UNIVERSAL", method_group: "PLAN", $points, operation_id: $id}'
}

token=$(jq -n --arg username "$login" --arg password "$PASSWORD" '{$username, $password}' |
  post /admin/token/generation | jq -er .token)

lease=$(acquisition 300 | post /quota/leases | jq -er .lease.lease_id)
echo "granted: 300 points"

# A refusal says why, and which limits it violates.
acquisition 1500 | post /quota/leases | jq -r '"refused: \(.reason), \(.message)"'

# The calculation runs here. One of more than 60 seconds renews its lease: POST /quota/leases/$lease:renew

jq -n '{points: 250, outcome: "SUCCESS", operation: "run_plan_calculation", duration: "PT1M30S"}' |
  post "/quota/leases/$lease:settle" | jq -r '"settled: \(.lease.settled_points) points, \(.lease.state)"'
