#!/bin/sh
# Runs once, at the end of the first boot. The application runs already, unless its early start
# did not work; a reload for each unit would cost a small member a fifth of a second.
set -eu
systemctl enable --quiet --no-reload slowapp
systemctl start slowapp
installed() { [ "$(dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
# The exporter is all that is downloaded. A mirror may fail for a while.
pause_s=2
until installed prometheus-node-exporter; do
  if apt-get -q update &&
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends prometheus-node-exporter; then
    break
  fi
  if [ "$pause_s" -gt 64 ]; then
    echo "exotide: prometheus-node-exporter cannot be installed; this member has no CPU graph" >&2
    exit 1
  fi
  sleep "$pause_s"
  pause_s=$((pause_s * 2))
done
systemctl enable --quiet --no-reload prometheus-node-exporter
systemctl start prometheus-node-exporter
