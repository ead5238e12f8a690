#!/bin/sh
# A nightly pass for cron or a person: silent on success, one report otherwise.
#
#     nightly.sh OPTION-FILE [ADDRESS]
#
# Acts on the exit status, as listed in rollforward(8). Mails the report to ADDRESS with mail(1), or
# prints it, so that cron sends it to MAILTO. Retries temporary failures up to TRIES passes, PAUSE
# seconds apart. TERM and INT are passed on.
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

# A shell runs no trap while it waits for a child in the foreground.
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
1) report 'failed permanently: retrying will not help' ;;
2) report 'wrong usage or configuration, or the program before it failed' ;;
3) report 'a backup is stored, but needs attention' ;;
75) report 'temporary failure; the next night retries' ;;
*)
    if [ "$status" -gt 128 ]; then
        report "stopped by signal $((status - 128)); the next pass resumes"
    else
        report "could not be run: status $status"
    fi
    ;;
esac
exit "$status"
