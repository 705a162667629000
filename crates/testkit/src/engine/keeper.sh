#!/bin/sh
# Waits until no test needs the engine any more, then removes it and all it made.
#   keeper.sh DIRECTORY LOCK LINGER_SECONDS
dir=$1 linger=$3
name=${dir##*/}

# Whether a process is there and no zombie.
alive() { [ -n "$1" ] && [ -r "/proc/$1/stat" ] && ! grep -q ') Z ' "/proc/$1/stat"; }

# Pids whose command line names something below our directory: dockerd, containerd, shims.
ours() {
    for proc in /proc/[0-9]*; do
        pid=${proc#/proc/}
        [ "$pid" != $$ ] && tr '\0' '\n' <"$proc/cmdline" 2>/dev/null | grep -qF "$dir/" && echo "$pid"
    done
}

# Containers of the engine, wherever their cgroup is: what descends from its shims.
containers() {
    for pid in $(ours); do
        case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
        *containerd-shim*) descendants "$pid" ;;
        esac
    done
    find /sys/fs/cgroup -path "*/$name/*" -name cgroup.procs -exec cat {} + 2>/dev/null
}

descendants() {
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
        echo "$child"
        descendants "$child"
    done
}

clean() {
    # Containers first: dockerd ends at once when there is nothing left to stop.
    pids=$(containers)
    [ -z "$pids" ] || kill -9 $pids 2>/dev/null
    daemon=$(cat "$dir/docker.pid" 2>/dev/null)
    if alive "$daemon"; then
        kill -15 "$daemon"
        tries=150
        while alive "$daemon" && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
    fi
    pids="$(ours) $(containers)"
    [ "$pids" = " " ] || kill -9 $pids 2>/dev/null
    # Newest mounts first; lazily, since a killed process may still be on its way out.
    awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r mount; do umount -l "$mount"; done 2>/dev/null
    bridges=$(cat "$dir/bridge" 2>/dev/null)
    # User-defined networks of an engine that was killed.
    bridges="$bridges $(grep -ao 'br-[0-9a-f]\{12\}' "$dir/data/network/files/local-kv.db" 2>/dev/null | sort -u)"
    for bridge in $bridges; do
        ip link delete "$bridge" 2>/dev/null
    done
    if [ -f "$dir/forward-rule" ]; then
        bridge=$(cat "$dir/bridge")
        iptables -w -D FORWARD -i "$bridge" -o "$bridge" -j ACCEPT 2>/dev/null
    fi
    find /sys/fs/cgroup -depth -type d \( -path "*/$name" -o -path "*/$name/*" \) -exec rmdir {} + 2>/dev/null
    tries=50
    until rm -rf "$dir" 2>/dev/null || [ $tries = 0 ]; do sleep 0.1; tries=$((tries - 1)); done
    # Last, and while we hold the lock: whoever waits for it sees that it is gone and makes another.
    rm -f "$dir.start" "$dir.lock"
}

exec 9<"$2"
while :; do
    flock -x 9
    [ "$linger" = 0 ] && break
    flock -u 9
    sleep "$linger"
    flock -xn 9 && break
done
clean 9<&-
