#!/bin/sh
# Installs what the tests in this folder need, on Debian and Ubuntu, as root. Nothing is started.
#
# MooseFS is a network file system that needs no module of the kernel but FUSE. Its packages are only unpacked, into
# .venv/cluster or the folder that is given, so that no service is set up.
set -eu
target=$(realpath -m "${1:-.venv/cluster}")
apt-get update
apt-get install -y --no-install-recommends iproute2 util-linux e2fsprogs
mkdir -p "$target"
cd "$target"
apt-get download moosefs-master moosefs-chunkserver moosefs-client libmfsio1 libfuse3-3
for package in *.deb; do
  dpkg -x "$package" .
done
rm -- *.deb
