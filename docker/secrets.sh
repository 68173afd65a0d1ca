#!/bin/sh
# Make the passwords that compose.yaml, rollout/ and swarm/ mount, in the folder secrets beside this script. What is
# there already stays.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)/secrets
# Containers read the files as users of their own, so the folder, not the files, keeps others out.
mkdir -p "$folder"
chmod 700 "$folder"
umask 022
[ -s "$folder/redis.conf" ] && [ -s "$folder/redis-url" ] && exit
password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
printf 'requirepass %s\n' "$password" >"$folder/redis.conf"
printf 'redis://:%s@redis:6379/0\n' "$password" >"$folder/redis-url"
