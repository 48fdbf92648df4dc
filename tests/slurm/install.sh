#!/usr/bin/env bash
# Installs Slurm for the tests in this folder (Debian or Ubuntu, as root). It starts nothing: each test starts a cluster
# of its own on this machine.
set -euo pipefail

command -v slurmctld slurmd sbatch > /dev/null && exit
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client
