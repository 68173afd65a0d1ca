# The worker of the benchmarks: sh worker.sh FILE appends its start time, rank and pid, and sleeps. A line is one
# short write to a file opened for appending, so the lines of several workers never mix.
echo "$(date +%s.%N) ${RANK_ID:-${GROUP_RANK:-0}} $$" >>"$1"
exec sleep 100000
