# Runs a throw-away PostgreSQL until standard input ends. Arguments: folder of the binaries,
# folder of a template, port, listen_addresses, text of pg_hba.conf, more settings; with TLS:
# certificate, key and authority in PEM. With the first argument alone it makes a template. Writes
# one line `ready FOLDER`, or the log.
set -u
# Whatever becomes of the test process, the folder must go.
trap '' HUP INT TERM PIPE
# TMPDIR may be for another user than the one that PostgreSQL runs as.
folder=
for temp in "${TMPDIR:-/tmp}" /tmp; do
    [ -n "$folder" ] || folder=$(mktemp -d "$temp/multigres-e2e.XXXXXX" 2>/dev/null)
done
[ -n "$folder" ] || { echo "no folder in ${TMPDIR:-/tmp} or /tmp"; exit 1; }
postmaster=
clean_up() {
    if [ -n "$postmaster" ]; then
        kill -QUIT "$postmaster" 2>/dev/null
        wait "$postmaster"
    fi
    rm -rf "$folder"
}
give_up() {
    cat "$folder/initdb.log" "$folder/server.log" 2>/dev/null
    clean_up
    exit 1
}

stay() {
    echo "ready $folder"
    exec >/dev/null
    cat >/dev/null
    clean_up
    exit
}

if [ $# = 1 ]; then
    "$1/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --no-locale -N \
        >"$folder/initdb.log" 2>&1 </dev/null || give_up
    stay
fi
cp -R "$2/data" "$folder/data" 2>"$folder/initdb.log" || give_up
printf '%s\n' "$5" >"$folder/data/pg_hba.conf"
cat >>"$folder/data/postgresql.conf" <<END
listen_addresses = '$4'
port = $3
unix_socket_directories = '$folder'
max_connections = 400
shared_buffers = 16MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
log_connections = on
log_disconnections = on
log_line_prefix = '%p %u@%d '
$6
END
if [ -n "${7:-}" ]; then
    (
        umask 077
        printf '%s' "$7" >"$folder/data/server.crt"
        printf '%s' "$8" >"$folder/data/server.key"
        printf '%s' "$9" >"$folder/data/root.crt"
    )
    printf '%s\n' 'ssl = on' "ssl_ca_file = 'root.crt'" >>"$folder/data/postgresql.conf"
fi
"$1/postgres" -D "$folder/data" >"$folder/server.log" 2>&1 </dev/null &
postmaster=$!

# pg_ctl would do the same; the pid file says "ready" in its eighth line.
tries=0
until [ "$(sed -n '8{s/ *$//;p;}' "$folder/data/postmaster.pid" 2>/dev/null)" = ready ]; do
    tries=$((tries + 1))
    kill -0 "$postmaster" 2>/dev/null || give_up
    [ "$tries" -le 1200 ] || give_up
    sleep 0.05
done
stay
