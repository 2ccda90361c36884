#!/bin/sh
# Runs the agent as the owner of the folder it writes to: a bind mount may belong to anyone and be
# closed to others, so no user fixed in the image could write there. What it starts has no
# capability and can get none; that holds too where the folder belongs to root.
set -eu
# Started with --user, or with --cap-drop=ALL: there is nothing to give up and no way to change.
if [ "$(id -u)" != 0 ] || grep -Eq '^CapEff:[[:space:]]+0+$' /proc/self/status; then
    exec exotide-servicediscovery "$@"
fi
folder=$(dirname "${EXOTIDE_TARGETS_FILE:-/srv/service-discovery/config.json}")
owner=$(stat -c %u "$folder" 2>/dev/null || echo 10001)
group=$(stat -c %g "$folder" 2>/dev/null || echo 10001)
exec setpriv --reuid="$owner" --regid="$group" --clear-groups \
    --bounding-set=-all --inh-caps=-all --no-new-privs exotide-servicediscovery "$@"
