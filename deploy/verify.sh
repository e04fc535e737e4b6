#!/usr/bin/env bash
# Build the compose file, start it and test what it promises, on a machine with a Docker engine.
#
#   deploy/verify.sh           up, checks and down, in a separate project ($HEART_PORT and $HEART_TLS_PORT must be free)
#   deploy/verify.sh checks    only the checks, against running containers (they restart, retrain, scale and kill them)
#
# $COMPOSE_FILE names the files, by default without a GPU; with a GPU: COMPOSE_FILE=docker-compose.yml.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export COMPOSE_FILE=${COMPOSE_FILE:-docker-compose.yml:docker-compose.cpu.yml} COMPOSE_PROFILES=${COMPOSE_PROFILES-proxy}
export HEART_PORT=${HEART_PORT:-8000} HEART_TLS_PORT=${HEART_TLS_PORT:-8443}
URL=http://127.0.0.1:$HEART_PORT TLS=https://localhost:$HEART_TLS_PORT
PATIENT='{"age": 63, "sex": 1, "cp": 4, "trestbps": 145, "chol": 233, "fbs": 1, "restecg": 2,
  "thalach": 150, "exang": 1, "oldpeak": 2.3, "slope": 3, "ca": null, "thal": 7}'
FILES=$(mktemp -d)
trap 'rm -rf "$FILES"' EXIT
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2' ERR

say() { printf '== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
compose() { docker compose --progress quiet "$@"; }
up() { compose up --detach --no-build --wait --wait-timeout 600 "$@"; }
has() { compose ps --services | grep -qx "$1"; }
predict() { curl -sS --fail-with-body --max-time 10 "$@" -H 'Content-Type: application/json' --data "$PATIENT"; }
python() { docker exec "$1" /venv/bin/python -c "$2"; }
versions() { python "$(compose ps -q service | sed -n 1p)" 'import os; print(*sorted(filter(str.isdigit, os.listdir("/models/heart_disease"))))'; }
digest() { python "$(compose ps -q service | sed -n 1p)" \
    'import hashlib; print(hashlib.sha256(open("/models/heart_disease/1/model.onnx", "rb").read()).hexdigest())'; }
until_ready() { for _ in {1..120}; do curl -fso "$FILES/ready" "$URL/health/ready" && return; sleep 0.5; done; fail 'not ready'; }
until_serves() { # version
    for _ in {1..60}; do curl -fso "$FILES/ready" "$URL/health/ready" && grep -q "\"model_version\":\"$1\"" "$FILES/ready" && return; sleep 0.5; done
    fail "version $1 does not serve"
}

answers() { # URL [curl options]: one prediction, by the newest version
    local answer; answer=$(predict "${@:2}" "$1/predict")
    grep -q '"probability":0\.[0-9]' <<< "$answer" || fail "$answer"
    grep -q "\"model_version\":\"$(versions | tr ' ' '\n' | tail -1)\"" <<< "$answer" || fail "$answer"
    echo "$answer"
}

confined() { # an intruder cannot write, gain privileges or be reached from another machine
    local id expected='/tmp only, caps 0000000000000000, no new privileges 1, user 10001'
    for id in $(compose ps -q service; if has proxy; then compose ps -q proxy; fi); do
        [ "$(docker exec "$id" sh -c 'for f in / /app /etc /models /var/tmp /tmp; do ! touch $f/x 2> /dev/null || printf "%s " $f; done
            echo "only, caps $(sed -n "s/^CapEff:\t//p" /proc/1/status), no new privileges $(sed -n "s/^NoNewPrivs:\t//p" /proc/1/status), user $(id -u)"')" \
            = "$expected" ] || fail "$id is not confined"
        docker inspect --format '{{range .HostConfig.PortBindings}}{{range .}}{{println .HostIp}}{{end}}{{end}}' "$id" \
            | sed '/^$/d' | sort -u | grep -qx 127.0.0.1 || fail "$id is published beyond this machine"
        docker inspect --format '{{if and .HostConfig.Memory .HostConfig.PidsLimit}}limited{{end}}' "$id" | grep -qx limited || fail "$id has no limits"
    done
    id=$(compose ps -q service | sed -n 1p)
    python "$id" 'import tempfile; tempfile.TemporaryFile(); assert tempfile.gettempdir() == "/spool"'
    docker exec "$id" sh -c 'for tool in gcc cc make /venv/bin/pip; do command -v $tool; done; ls -d /.cache /tmp/.cache; true' \
        > "$FILES/found" 2> "$FILES/none"
    [ ! -s "$FILES/found" ] || fail "found in the image, or left by the service: $(cat "$FILES/found")"
}

restarts() { # nothing is retrained or lost
    local model; model=$(digest)
    compose restart service; until_ready
    up; [ "$(digest)" = "$model" ] || fail 'up trained again'
    compose down; up
    [ "$(digest) $(versions)" = "$model 1" ] || fail 'down and up trained again'
    compose logs trainer | grep -q 'nothing to do\|already' || fail 'the trainer does not report why it did nothing'
}

killed() { # the engine restarts a killed process
    local id started; id=$(compose ps -q service | sed -n 1p); started=$(docker inspect --format '{{.State.StartedAt}}' "$id")
    python "$id" 'import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if pid != "1" and open(f"/proc/{pid}/cmdline").read().endswith("-m\0service\0"): os.kill(int(pid), 9)' || true
    for _ in {1..100}; do [ "$(docker inspect --format '{{.State.StartedAt}}' "$id")" != "$started" ] && break; sleep 0.1; done
    [ "$(docker inspect --format '{{.RestartCount}}' "$id")" = 1 ] || fail 'not restarted'
    until_ready
}

scales() { # three containers share the work, and killing one loses no request
    HEART_PORT=0 up --scale service=3
    local id ids; mapfile -t ids < <(compose ps -q service)
    [ "${#ids[@]}" = 3 ] || fail "${#ids[@]} containers"
    for id in "${ids[@]}"; do
        predict "http://$(docker port "$id" 8000/tcp)/predict" > "$FILES/answer"
    done
    has proxy || { say 'no proxy is running: not tested behind one'; return; }
    compose exec -T proxy cat /certificate/certificate.pem > "$FILES/ca.pem"
    local ca=(--cacert "$FILES/ca.pem")
    sleep 3 # for the proxy to resolve the names again and to check each container's readiness
    for _ in {1..60}; do predict "${ca[@]}" "$TLS/predict" > "$FILES/answer"; done
    for id in "${ids[@]}"; do
        python "$id" 'import re, urllib.request as r
rows = float(re.search(r"""heart_rows_total{way="single"} (\S+)""", r.urlopen("http://127.0.0.1:8000/metrics").read().decode())[1])
raise SystemExit(rows < 10 and f"only {rows} rows of 60")'
    done
    (sleep 1; docker kill "${ids[1]}" > "$FILES/killed") &
    for _ in {1..150}; do predict "${ca[@]}" --retry 0 "$TLS/predict" > "$FILES/answer"; done
    wait $!
    answers "$TLS" "${ca[@]}"
    [ "$(curl -so "$FILES/answer" -w '%{http_code}' "${ca[@]}" "$TLS/metrics")" = 404 ] || fail '/metrics is open'
    ! curl -so "$FILES/answer" --tls-max 1.1 "${ca[@]}" "$TLS/health/live" || fail 'TLS 1.1 is accepted'
}

trains() { # a new version, compared with the serving one, replaces it automatically
    compose run --rm trainer fit --repeats 1 --models /models/heart_disease
    [ "$(versions)" = '1 2' ] || fail "versions: $(versions)"
    until_serves 2
}

checks() {
    say ready; until_ready; cat "$FILES/ready"; echo
    say 'a prediction through the published port'; answers "$URL"
    say confined; confined
    say 'restart: the model is still there, not retrained'; restarts; answers "$URL"
    say 'a killed process'; killed; answers "$URL"
    say 'train: the next version'; trains; answers "$URL"
    say 'scale: three containers'; scales
    say 'all checks passed'
}

case ${1:-all} in
    checks) checks ;;
    all)
        export COMPOSE_PROJECT_NAME=heart-verify
        { docker compose version && docker info; } > "$FILES/engine" || fail 'this needs a Docker engine and docker compose'
        trap '[ $? = 0 ] || docker compose logs --tail 50
            docker compose down --volumes --rmi local --remove-orphans; rm -rf "$FILES"' EXIT
        say build; docker compose build
        say up; up
        docker image ls --filter 'reference=heart-verify-*' --format '{{.Repository}} {{.Size}}'
        checks ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
