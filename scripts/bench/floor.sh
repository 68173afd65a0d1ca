# The floor of the benchmarks: sh floor.sh PORT FILE waits for one word on the channel "start" of the Redis at PORT,
# and then is the worker.
redis-cli -p "$1" subscribe start | {
    while read -r word && [ "$word" != go ]; do :; done
    exec sh "$(dirname "$0")/worker.sh" "$2"
}
