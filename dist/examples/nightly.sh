#!/bin/sh
# A nightly pass for cron or a person: silent when all is well, one report when it is not.
#
#     nightly.sh OPTION-FILE [ADDRESS]
#
# Acts by the exit status, as rollforward(8) lists them. The report goes by mail(1) to ADDRESS, or
# without one to standard output, which cron sends to MAILTO. TRIES passes, PAUSE seconds apart,
# are made while what keeps them from ending well is temporary. TERM and INT are passed on.
set -u

options=${1:?usage: nightly.sh OPTION-FILE [ADDRESS]}
address=${2-}
tries=${TRIES:-3}
pause=${PAUSE:-900}
name=$(basename "$options" .cnf)

log=$(mktemp) || exit 1
child=''
stop=''
trap 'rm -f "$log"' EXIT
trap 'stop=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT

# A shell that waits for a child in the foreground obeys no trap before that has ended.
supervise() {
    "$@" &
    child=$!
    wait "$child"
    status=$?
    # A signal ends the wait but not the child.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
    child=''
}

report() {
    if [ -n "$address" ]; then
        mail -s "rollforward $name: $1" "$address" <"$log"
    else
        echo "rollforward $name: $1"
        cat "$log"
    fi
}

supervise rollforward run -q --defaults-file "$options" >>"$log" 2>&1
while [ "$status" = 75 ] && [ -z "$stop" ] && [ "$tries" -gt 1 ]; do
    tries=$((tries - 1))
    supervise sleep "$pause"
    [ -z "$stop" ] || { status=143; break; }
    supervise rollforward run -q --defaults-file "$options" >>"$log" 2>&1
done

case $status in
0) [ ! -s "$log" ] || report 'a backup is stored, or none was due; there were warnings' ;;
1) report 'failed for good: look, running it again will not help' ;;
2) report 'wrong usage or configuration, or the program before it failed' ;;
3) report 'a backup is stored, but needs attention' ;;
75) report 'temporary trouble; the next night tries again' ;;
*)
    if [ "$status" -gt 128 ]; then
        report "stopped by signal $((status - 128)); the next pass goes on from there"
    else
        report "could not be run: status $status"
    fi
    ;;
esac
exit "$status"
