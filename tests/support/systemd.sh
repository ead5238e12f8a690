#!/bin/sh
# Becomes the systemd of a small machine of its own: run as PID 1 in new namespaces, with a
# directory that holds `etc`, `local` (what was installed), `backup` and `lib` (for its /var/lib).
# Its /usr is the machine's, without the machine's units.
set -e
work=$1 also=$2
root=$work/root
mkdir "$root"
mount -t tmpfs -o mode=755 root "$root"
cd "$root"
mkdir backup dev etc proc run sys tmp usr var var/lib var/log var/tmp old
chmod 1777 tmp var/tmp
for name in bin sbin lib lib64; do
    ln -s usr/$name $name
done
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind "$work/local" usr/local
mount --bind "$work/backup" backup
mount --bind "$work/lib" var/lib
if [ -n "$also" ]; then
    mkdir -p ".$also"
    mount --bind "$also" ".$also"
fi
cp -a "$work/etc/." etc/
units=usr/lib/systemd/system
mkdir journal
cp /$units/systemd-journald.service /$units/systemd-journald.socket \
    /$units/systemd-journald-dev-log.socket journal/
mount -t tmpfs -o mode=755 units $units
mount -t tmpfs -o mode=755 generators usr/lib/systemd/system-generators
mv journal/* $units/
for name in sysinit basic shutdown network-online timers; do
    printf '[Unit]\nDefaultDependencies=no\n' >$units/$name.target
done
printf '[Unit]\nRequires=basic.target systemd-journald.service\n' >$units/default.target
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do
    : >dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/shm dev/pts
mount -t tmpfs shm dev/shm
mount -t devpts -o newinstance,ptmxmode=666 pts dev/pts
ln -s pts/ptmx dev/ptmx
chroot . systemd-sysusers
chroot . chown -R rollforward: backup
chgrp -R "$(sed -n 's/^rollforward:[^:]*:\([0-9]*\):.*/\1/p' etc/group)" etc/rollforward
pivot_root . old
cd /
umount -l /old
exec env -i container=test PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --system \
    --log-level=info --log-target=journal --show-status=0
