#!/bin/sh
# Shows doorward at work on this host, and leaves nothing behind. Called by `make demo`.
#
# usage: demo/demo.sh DIRECTORY      (the directory with the programs, for example target/debug)
#
# As root: every service under a uid of its own, a throw-away account with a random password, logins
# through the system's PAM. Without root: all services as you, and the PAM stack is libpam-wrapper's
# with a made-up password; the guard and the worker are then built with the feature `pam-wrapper`, or
# taken from DOORWARD_DEMO_GUARD and DOORWARD_DEMO_WORKER.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
bin=$(cd "$1" && pwd)
top=$(cd "$(dirname "$0")/.." && pwd)

# Refusals belong between the lines that they answer.
exec 2>&1
umask 022
random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
say() { printf '\n%s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

root=no
[ "$(id -u)" -ne 0 ] || root=yes
password=$(random 12)
group='' user='' dir='' port='' api='' dev='' listening=''
pam_service_before=$(ls /etc/pam.d/doorward 2>/dev/null || true)
lock_before=$(ls /run/doorward-dev.lock 2>/dev/null || true)

# --- leaving nothing behind -------------------------------------------------------------------------

cleanup() {
    status=$?
    trap '' INT TERM HUP
    trap - EXIT
    [ -z "$listening" ] || kill -TERM $listening 2>/dev/null || true
    # `doorward dev` takes away what it made.
    if [ -n "$dev" ] && kill -TERM "$dev" 2>/dev/null; then
        say "Stopping everything."
        wait "$dev" || status=1
    fi
    if [ -e "$work/redis/pid" ]; then
        server=$(cat "$work/redis/pid")
        kill -TERM "$server" 2>/dev/null || true
        while [ -e "/proc/$server" ]; do sleep 0.05; done
    fi
    if [ $root = yes ]; then
        if getent passwd "$account" >/dev/null; then userdel "$account" || status=1; fi
        if getent group "$account-g" >/dev/null; then groupdel "$account-g" || status=1; fi
    fi
    rm -rf "$work"
    left=$(leftovers)
    if [ -n "$left" ]; then
        printf 'demo: left behind:\n%s\n' "$left" >&2
        status=1
    else
        echo "Nothing is left: no process, no account, no file, no socket."
    fi
    [ $status -eq 0 ] || echo "demo: failed" >&2
    exit $status
}

# Prints what should be gone and is not.
leftovers() {
    for path in "$work" ${dir:+"$dir"}; do
        [ ! -e "$path" ] || echo "file: $path"
    done
    [ "$(ls /etc/pam.d/doorward 2>/dev/null || true)" = "$pam_service_before" ] || echo "file: /etc/pam.d/doorward"
    [ "$(ls /run/doorward-dev.lock 2>/dev/null || true)" = "$lock_before" ] || echo "file: /run/doorward-dev.lock"
    for process in /proc/[0-9]*; do
        command=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline") || continue
        case $command in
        *"$work"* | *"${dir:-$work}"*) echo "process: ${process#/proc/} $command" ;;
        esac
    done
    if [ -n "$dir" ] && grep -F "$dir" /proc/net/unix; then echo "socket: below $dir"; fi
    for listener in ${port:+"$port"} ${api:+"${api##*:}"}; do
        if grep -i ":$(printf '%04X' "$listener") [0-9A-F]*:0000 0A" /proc/net/tcp; then
            echo "socket: TCP port $listener"
        fi
    done
    if [ $root = yes ]; then
        for file in /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/subuid /etc/subgid; do
            if grep -q "$account" "$file" 2>/dev/null; then echo "account: $account in $file"; fi
        done
        [ ! -e "/var/mail/$account" ] || echo "file: /var/mail/$account"
    fi
}

account=dwdemo$(random 3)
work=$(mktemp -d)
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
chmod 755 "$work"

# --- who logs in --------------------------------------------------------------------------------------

if [ $root = yes ]; then
    say "A throw-away account, $account, with a random password, in a throw-away group:"
    groupadd "$account-g"
    group=$account-g
    useradd --gid "$group" --no-user-group --no-create-home --home-dir /nonexistent --shell /bin/sh "$account"
    user=$account
    printf '%s:%s\n' "$user" "$password" | chpasswd
    id "$user"
    set --
else
    user=$(id -un)
    group=$(id -gn)
    say "Not root: nothing separates the services from each other or from you, there is no throw-away"
    echo "account, and PAM is libpam-wrapper's with a made-up password for $user, not the system's."
    echo "As root \`make demo\` shows the real thing."
    module=$(find /usr/lib /usr/lib64 /usr/local/lib -name pam_matrix.so 2>/dev/null | head -n 1)
    wrapper=$(find /usr/lib /usr/lib64 /usr/local/lib -name libpam_wrapper.so 2>/dev/null | head -n 1)
    if [ -z "$module" ] || [ -z "$wrapper" ]; then fail "libpam-wrapper is missing: install it, or run as root"; fi
    guard=${DOORWARD_DEMO_GUARD:-} worker=${DOORWARD_DEMO_WORKER:-}
    if [ -z "$guard" ] || [ -z "$worker" ]; then
        built=$(dirname "$bin")/pam-wrapper
        (cd "$top" && cargo build --locked --quiet -p doorward-pam-guard -p doorward-pam-worker \
            --features doorward-pam-guard/pam-wrapper,doorward-pam-worker/pam-wrapper --target-dir "$built")
        guard=$built/debug/doorward-pam-guard
        worker=$built/debug/doorward-pam-worker
    fi
    mkdir "$work/pam.d"
    printf '%s:%s:doorward\n' "$user" "$password" >"$work/passdb"
    chmod 600 "$work/passdb"
    for kind in auth account password; do
        printf '%s required %s passdb=%s\n' $kind "$module" "$work/passdb"
    done >"$work/pam.d/doorward"
    # The services get no environment of ours; the guard gets it from this script, and hands it on.
    cat >"$work/guard" <<EOF
#!/bin/sh
export LD_PRELOAD='$wrapper' PAM_WRAPPER=1 PAM_WRAPPER_SERVICE_DIR='$work/pam.d'
exec '$guard' "\$@"
EOF
    chmod 700 "$work/guard"
    set -- --guard "$work/guard" --worker "$worker"
fi

# --- start --------------------------------------------------------------------------------------------

# Channels go through a Redis, where there is one to start: as soon as it is known who may get to it.
redis=$(command -v redis-server || true)
[ -z "$redis" ] || { mkdir -m 700 "$work/redis" && set -- --redis "$work/redis/redis.sock" "$@"; }

say "\$ doorward dev${redis:+ --redis redis.sock}"
mkfifo "$work/report"
"$bin/doorward" dev --json --access-group "$group" "$@" >"$work/report" &
dev=$!
# One line comes when everything is ready; none, if it could not start.
read -r report <"$work/report" || fail "doorward dev did not start"
field() { printf '%s\n' "$report" | sed -n "s/.*\"$1\":\[*\"\([^\"]*\)\".*/\1/p"; }
dir=$(field directory) socket=$(field socket) url=$(field urls) fingerprint=$(field fingerprint)
api=$(field token_api)
port=${url##*:}
for found in "$dir" "$socket" "$port" "$fingerprint" "$api"; do
    [ -n "$found" ] || fail "no addresses in: $report"
done
echo "TLS $url, key $fingerprint"
echo "Unix socket $socket"
echo "token API $api"
printf '%s\n' "$report" | tr '{' '\n' |
    sed -n 's/.*"name":"\([^"]*\)","pid":\([0-9]*\),"uid":\([0-9]*\).*/\1: pid \2, uid \3/p'

if [ -n "$redis" ]; then
    gateway=$(printf '%s\n' "$report" | tr '{' '\n' | sed -n 's/.*"name":"[^"]*gateway","pid":\([0-9]*\),.*/\1/p')
    [ -n "$gateway" ] || fail "no gateway in: $report"
    chgrp "$(sed -n 's/^Gid:\t\([0-9]*\).*/\1/p' "/proc/$gateway/status")" "$work/redis"
    chmod 710 "$work/redis"
    "$redis" --port 0 --unixsocket "$work/redis/redis.sock" --unixsocketperm 777 --save '' --appendonly no \
        --dir "$work/redis" --daemonize yes --pidfile "$work/redis/pid" >/dev/null
fi

# --- with a password, over TLS --------------------------------------------------------------------------

# The client keeps its token here, not in a directory of yours.
mkdir -m 700 "$work/remote" "$work/local"
remote() { XDG_RUNTIME_DIR=$work/remote "$bin/doorward" --url "$url" --fingerprint "$fingerprint" "$@"; }

say "With the password, through PAM, over TLS:"
echo "\$ doorward --url $url --fingerprint ... login $user --password-stdin"
printf '%s\n' "$password" | remote login "$user" --password-stdin
echo "\$ doorward --url ... call rpc/query"
remote call rpc/query
echo "\$ doorward --url ... status"
remote status
echo "\$ doorward --url ... logout"
remote logout

say "With a wrong password:"
echo "\$ doorward --url ... login $user --password-stdin"
code=0
printf 'not %s\n' "$password" | remote login "$user" --password-stdin || code=$?
[ $code -eq 1 ] || fail "a wrong password was not refused: exit code $code"
echo "refused, exit code 1"

# --- by plain HTTP, with curl ---------------------------------------------------------------------------

# What is secret, a password or a token in a URL, goes to curl on standard input: every user of this host can read
# the arguments of its programs. It writes the status behind the body.
ask() { curl --silent --show-error --max-time 60 --noproxy '*' --write-out '\n%{http_code}\n' "$@" --config -; }
with_password() { printf 'url = "%s"\nuser = "%s:%s"\n' "$1" "$user" "$password"; }
# expect STATUS ANSWER: shows the answer without the token in it, and fails if its status is another.
expect() {
    shown=$2
    if [ -n "$token" ]; then shown=$(printf '%s\n' "$2" | sed "s/$token/.../g"); fi
    printf '%s\n' "$shown" | sed '/^$/d'
    [ "$(printf '%s\n' "$2" | tail -n 1)" = "$1" ] || fail "the status should be $1"
}
token=''
[ -r "$dir/state/gateway/tls.crt" ] && certificate=$dir/state/gateway/tls.crt || certificate=''
[ -n "$certificate" ] || fail "the gateway's certificate is not where it should be"

say "By plain HTTP, with the password for this one request:"
echo "\$ curl --cacert tls.crt --config -  # GET /rpc/query"
expect 200 "$(with_password "https://localhost:$port/rpc/query" | ask --cacert "$certificate")"

say "A token for other services, good for 60 s:"
echo "\$ curl --data '{\"expiration\": 60}' --config -  # POST /0.1/token"
answer=$(with_password "$api/0.1/token" |
    ask --header 'Content-Type: application/json' --data '{"expiration": 60}')
token=$(printf '%s\n' "$answer" | sed -n 's/.*"token":"\([^"]*\)".*/\1/p')
expect 200 "$answer"
[ -n "$token" ] || fail "no token"
of_token() { printf 'url = "%s/0.1/token/%s%s"\n' "$api" "$token" "$1"; }
echo "\$ curl --head --config -  # HEAD /0.1/token/..."
answer=$(of_token '' | ask --head --output /dev/null)
expect 204 "$answer"
echo "\$ curl --config -  # GET /0.1/token/...?scope=confd.users.read, which nobody here is granted"
expect 403 "$(of_token '?scope=confd.users.read' | ask)"
echo "\$ curl --request DELETE --config -  # DELETE /0.1/token/..."
expect 200 "$(of_token '' | ask --request DELETE)"
echo "\$ curl --config -  # GET /0.1/token/..."
expect 404 "$(of_token '' | ask)"

# --- without one, on this host -----------------------------------------------------------------------------

if [ $root = yes ]; then
    # The account may not be able to reach the directory with the programs.
    cp "$bin/doorward" "$work/doorward"
    chmod 755 "$work/doorward"
    chown "$user:$group" "$work/local"
    as_user() {
        setpriv --reuid "$user" --regid "$group" --init-groups --reset-env \
            env XDG_RUNTIME_DIR="$work/local" "$work/doorward" "$@"
    }
else
    as_user() { XDG_RUNTIME_DIR=$work/local "$bin/doorward" "$@"; }
fi
local_user() { as_user --socket "$socket" "$@"; }
remote_user() { as_user --url "$url" --fingerprint "$fingerprint" "$@"; }
say "As the local user $user, without a password, because the kernel says who that is: on the Unix socket, then over TLS on loopback:"
echo "\$ doorward login"
local_user login
echo "\$ doorward query"
local_user query
echo "\$ doorward logout"
local_user logout
echo "\$ doorward --url $url --fingerprint ... login"
remote_user login
echo "\$ doorward --url ... call rpc/query"
remote_user call rpc/query
echo "\$ doorward --url ... logout"
remote_user logout

# --- a subsystem ------------------------------------------------------------------------------------------

say "Behind the gateway, under a uid of its own, a subsystem. What there is, and what it can do:"
local_user login >/dev/null
echo "\$ doorward query"
local_user query | tee "$work/query"
grep -q '^sysadm/systemmanager ' "$work/query" || fail "sysadm/systemmanager is not there"
echo "\$ doorward describe sysadm/systemmanager"
local_user describe sysadm/systemmanager
echo "\$ doorward call sysadm/systemmanager memorystats"
local_user call sysadm/systemmanager memorystats
echo "\$ doorward events system-state --count 1  # the last one comes at once"
local_user events system-state --count 1
echo "\$ tail -n 1 sysinfo/audit.jsonl  # what the subsystem recorded of the call"
record=$(grep '"action":"[^"]*memorystats"' "$dir/state/sysinfo/audit.jsonl" | tail -n 1)
[ -n "$record" ] || fail "the call was not recorded"
printf '%s\n' "$record"
echo "\$ doorward logs --from -10m --most 5  # what the services recorded of $user"
local_user logs --from -10m --most 5 | tee "$work/logs"
grep -q "$user" "$work/logs" || fail "the services recorded nothing of $user"
echo "\$ doorward logout"
local_user logout

# --- a channel ----------------------------------------------------------------------------------------------

say "A channel${redis:+, through Redis}: who is subscribed hears what is published.${redis:+ Other programs publish there, too:}"
local_user login >/dev/null
count=1
[ -z "$redis" ] || count=2
: >"$work/told"
echo "\$ doorward subscribe lobby --count $count &"
local_user subscribe lobby --count $count >"$work/heard" 2>"$work/told" &
listening=$!
# Until it is subscribed: a publication is for those who are.
tries=0
until grep -q subscribed "$work/told"; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "the subscription takes too long: $(cat "$work/told")"
    sleep 0.05
done
echo "\$ doorward publish lobby '{\"text\": \"hello\"}'"
local_user publish lobby '{"text": "hello"}'
if [ -n "$redis" ]; then
    echo "\$ redis-cli -s redis.sock publish doorward:lobby:events '{\"text\": \"hello from elsewhere\"}'"
    redis-cli -s "$work/redis/redis.sock" publish doorward:lobby:events '{"text": "hello from elsewhere"}'
fi
wait $listening || fail "nothing was heard"
cat "$work/heard"
grep -q hello "$work/heard" || fail "something else was heard"
echo "\$ doorward logout"
local_user logout

# --- with a key -------------------------------------------------------------------------------------------

say "With a key of $user's own, registered first, then in place of a password, over TLS:"
key=$work/local/key
echo "\$ doorward keygen key"
as_user keygen "$key"
echo "\$ doorward login; doorward certs register key.pub --key key --nickname demo"
local_user login >/dev/null
local_user certs register "$key.pub" --key "$key" --nickname demo
echo "\$ doorward certs list"
local_user certs list
echo "\$ doorward --url ... login $user --key key"
remote_user login "$user" --key "$key"
echo "\$ doorward --url ... call rpc/query"
remote_user call rpc/query

say "Revoked, the key opens nothing any more, and what it opened has ended:"
echo "\$ doorward certs revoke key.pub"
local_user certs revoke "$key.pub"
code=0
echo "\$ doorward --url ... call rpc/query"
remote_user call rpc/query || code=$?
[ $code -eq 1 ] || fail "the session of a revoked key goes on: exit code $code"
code=0
echo "\$ doorward --url ... login $user --key key"
remote_user login "$user" --key "$key" || code=$?
[ $code -eq 1 ] || fail "a revoked key was not refused: exit code $code"
echo "refused, exit code 1"
echo "\$ doorward logout"
local_user logout

if [ $root = yes ]; then
    say "As root, without a password:"
    echo "\$ doorward login"
    code=0
    XDG_RUNTIME_DIR=$work/remote "$bin/doorward" --socket "$socket" login || code=$?
    [ $code -eq 1 ] || fail "root without a password was not refused: exit code $code"
    echo "refused, exit code 1"
fi
