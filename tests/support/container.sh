#!/bin/sh
# What PID 1 does before it becomes the program: run in new namespaces, it puts the root of a
# container together, with volumes, and nothing of it but these can be written to.
#   WAY USER ROOT WORK HELPER PROGRAM [ARGUMENT]...
# WORK holds the volumes. HELPER, if it is not empty, is a name server to start. PROGRAM is passed
# over: it is the root's own one.
set -e
way=$1 user=$2 root=$3 work=$4 helper=$5
shift 6
mount --bind "$root" "$root"
for volume in backup scratch etc run/secrets/rollforward; do
    mount --bind "$work/$volume" "$root/$volume"
done
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro,nosuid,nodev "$root"
if [ -n "$helper" ]; then
    perl "$helper" &
    until grep -q ':0035 ' /proc/net/udp; do
        kill -0 $!
        sleep 0.05
    done
fi
cd /
umask 022
case $way in
user)
    exec unshare --user --map-user="$user" --map-group="$user" --root="$root" --wd=/ \
        /usr/local/bin/rollforward "$@" ;;
root)
    exec chroot --userspec="$user:$user" --groups= "$root" /usr/local/bin/rollforward "$@" ;;
as-root)
    exec chroot "$root" /usr/local/bin/rollforward "$@" ;;
esac
