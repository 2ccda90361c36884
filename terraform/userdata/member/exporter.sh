#!/bin/sh
# Installs the node exporter: all that a member downloads, and without it, it has no CPU. It tries
# until that works, whatever is wrong: a mirror that fails, the image's own upgrades that hold the
# locks, a power cut in the middle of an installation.
export DEBIAN_FRONTEND=noninteractive
exporter=prometheus-node-exporter
pause_s=0
until [ "$(dpkg-query -Wf '${db:Status-Status}' $exporter 2>/dev/null)" = installed ]; do
  sleep $pause_s
  pause_s=$((pause_s < 60 ? pause_s * 2 + 2 : 60))
  dpkg --configure -a --force-confold
  apt-get -q update
  apt-get -qy -oDPkg::Lock::Timeout=600 -oDPkg::Options::=--force-confold install --fix-broken --no-install-recommends $exporter
done
systemctl enable --quiet --no-reload $exporter
systemctl start $exporter
