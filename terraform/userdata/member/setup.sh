#!/bin/sh
# Runs at the end of each boot. The application first: it needs nothing that is not there.
set -eu
systemctl daemon-reload
systemctl enable --quiet --now slowapp
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
systemctl enable --quiet --now prometheus-node-exporter
