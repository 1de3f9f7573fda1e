#!/usr/bin/env bash
# Follows a disputed payment as an auditor does: from the identifier to the answer at that instant, to the person and the
# file that registered it, to a proof in a file, to a verification after the service has ended.  The auditor has a key
# and the address of the admin API, and no database.  Files are verified by oracle-verify in a new environment that
# holds nothing but its two dependencies.
# It uses the command line, against a service that it starts itself on free ports in a new directory.  It removes both
# afterwards (KEEP=1 keeps the directory).
#
#     walks/audit_walk.sh
#
# Exits with 0 only if every check passed.  Needs bash, curl, and the tree's own .venv (or ORACLE_BIN=, PYTHON=).
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-$top/.venv/bin/python}
ORACLE_BIN=${ORACLE_BIN:-$(dirname "$PYTHON")/oracle}

# The caller may have settings of another service.
for name in $(compgen -e ORACLE_ | grep -v '^ORACLE_BIN$' || true); do unset "$name"; done

work=$(mktemp -d "${TMPDIR:-/tmp}/audit-walk.XXXXXX")
serve=
finish() {
    code=$?
    trap - EXIT INT TERM
    if [ -n "$serve" ] && kill "$serve" 2>/dev/null; then wait "$serve" 2>/dev/null || true; fi
    if [ $code -ne 0 ] && [ -f "$work/serve.log" ]; then tail -n 20 "$work/serve.log" | sed 's/aok_[^ ]*/aok_…/' >&2; fi
    if [ -z "${KEEP:-}" ]; then rm -rf "$work"; else echo "kept: $work"; fi
    [ $code -eq 0 ] && echo "audit walk: every check passed" || echo "audit walk: FAILED" >&2
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir "$work/hub" "$work/auditor"
cd "$work/hub"

step() { printf '\n# %s\n' "$*"; }
fail() { echo "audit walk: $*" >&2; exit 1; }
who=operator
as() { who=$1; export ORACLE_KEY_FILE=$work/$1.key; }
oracle() { printf '%s$ oracle%s\n' "$who" "$(printf ' %q' "$@")" >&2; "$ORACLE_BIN" "$@"; }
verify() { printf '%s$ oracle-verify%s\n' "$who" "$(printf ' %q' "$@")" >&2; "$work/empty/bin/oracle-verify" "$@"; }
expect() { grep -q -- "$1" "$2" || fail "missing in the answer: $1"; }
now() { date -u +%Y-%m-%dT%H:%M:%S.%6NZ; }
# Sealing is some seconds behind at most.
wait_until_sealed() {
    for _ in $(seq 300); do
        "$ORACLE_BIN" audit status | grep -q '^waitingS *$' && return
        sleep 0.1
    done
    fail "history is not sealed"
}

phone=525512345678

# ---------------------------------------------------------------------------------------------------------------------

step "A hub at work: the maker of greenbank uploads a file, the checker approves it"
export ORACLE_DATA_DIR=$work/data
ORACLE_HUB_PORT=0 ORACLE_ADMIN_PORT=0 ORACLE_LOG_FORMAT=text "$ORACLE_BIN" serve > "$work/serve.log" 2>&1 &
serve=$!
for _ in $(seq 600); do
    grep -q '^  aok_' "$work/serve.log" && break
    kill -0 "$serve" 2>/dev/null || fail "serve ended"
    sleep 0.1
done
hub=$(sed -n 's/^  hub  *\(http:.*\)$/\1/p' "$work/serve.log")
ORACLE_ADMIN_URL=$(sed -n 's/^  admin  *\(http:.*\)$/\1/p' "$work/serve.log")
export ORACLE_ADMIN_URL
as operator
(umask 077; sed -n 's/^  \(aok_.*\)$/\1/p' "$work/serve.log" > "$work/operator.key")
oracle fsp create greenbank --two-persons > /dev/null
oracle fsp create redbank > /dev/null
oracle key issue --role dfsp-maker --fsp greenbank --label "Ana Flores, greenbank" --out "$work/maker.key" > /dev/null
oracle key issue --role dfsp-checker --fsp greenbank --label "Luis Mora, greenbank" --out "$work/checker.key" > /dev/null
oracle key issue --role auditor --label "auditors of the scheme" --out "$work/auditor.key" > /dev/null
{
    echo "kind,identifier,currency"
    for n in $(seq 100 399); do echo "MSISDN,525598765$n,MXN"; done
    echo "MSISDN,$phone,MXN"
} > march.csv
as maker
oracle import march.csv --note "customers of March" --json > waiting.json
batch=$(sed -n 's/.*"batchId":\([0-9]*\).*/\1/p' waiting.json)
as checker
oracle batch approve "$batch" --reason "checked against the branch list" > /dev/null
as maker
oracle batch watch "$batch" 2> /dev/null

step "The auditor has a key and a directory, and keeps a checkpoint and the public key there"
cd "$work/auditor"
as auditor
wait_until_sealed
oracle audit fetch-checkpoint > kept
oracle audit fetch-keys > log.vkey
cat kept

step "A payment: the hub asks which FSP has the number"
sleep 0.01
curl -sS -H 'fspiop-source: redbank' "$hub/participants/MSISDN/$phone" | tee answer; echo
expect '"fspId":"greenbank"' answer
paid=$(now)

step "Later the number moves to redbank, and greenbank is suspended"
as maker
oracle alias remove MSISDN +$phone --reason moved --note "the customer left" | tee asked
as checker
oracle batch approve "$(sed -n 's/^batch \([0-9]*\) waits .*/\1/p' asked)" > /dev/null
curl -sS -H 'fspiop-source: redbank' "$hub/participants/MSISDN/$phone" -d '{"fspId":"redbank"}'; echo
as operator
oracle fsp suspend greenbank --reason "a review" > /dev/null

step "The dispute: which FSP had 55 1234 5678 at $paid, and who registered it, with which file?"
as auditor
oracle audit resolve MSISDN "55 1234 5678" --country MX --at "$paid" | tee answer.txt
expect '^fspId  *greenbank' answer.txt
expect 'isFinal  *yes' answer.txt
expect 'from file march.csv, line 302' answer.txt
expect 'uploaded by Ana Flores, greenbank' answer.txt
expect 'approved by Luis Mora, greenbank .*checked against the branch list' answer.txt
expect "$(sha256sum "$work/hub/march.csv" | cut -d' ' -f1)" answer.txt

step "And today? Every change of the answer"
oracle audit timeline MSISDN $phone | tee answer.txt
expect 'redbank' answer.txt
oracle audit events --request "batch:$batch" --limit 3
oracle audit diff --fsp greenbank --from "$paid" --to "$(now)"

step "The proof, in a file: the event is in the log, under the checkpoint that was kept before the payment"
event=$(oracle audit resolve MSISDN $phone --at "$paid" --json |
    "$PYTHON" -c 'import json, sys; print([e["eventId"] for e in json.load(sys.stdin)["events"] if e["entity"] == "alias"][0])')
oracle audit proof "$event" --checkpoint kept --key log.vkey | tee answer.txt
expect "\"event_id\":$event," answer.txt
oracle audit proof "$event" --checkpoint kept --key log.vkey --out proof.json

step "An export that extends the kept checkpoint, and a second one of what came after it"
wait_until_sealed
oracle audit fetch export --since kept --csv
ls -l export | awk 'NR > 1 {print "  " $9 "  " $5 " bytes"}'
as operator
oracle fsp activate greenbank --reason "the review found nothing" > /dev/null
as auditor
wait_until_sealed
oracle audit fetch later --after export

step "Who read history? Every question is recorded"
oracle audit reads --limit 5

step "The service has ended: a new environment, with oracle-verify and its two dependencies alone"
kill "$serve"; wait "$serve" 2>/dev/null || true; serve=
unset ORACLE_ADMIN_URL ORACLE_KEY_FILE ORACLE_DATA_DIR
cp -r "$top/oracle/verifier" "$work/source"
"$PYTHON" -m pip --disable-pip-version-check wheel --quiet --no-index --no-deps --no-build-isolation \
    --wheel-dir "$work" "$work/source"
"$PYTHON" -m venv --without-pip "$work/empty"
"$PYTHON" -m pip --disable-pip-version-check --python "$work/empty/bin/python" install --quiet --no-index --no-deps \
    "$work"/oracle_verify-*.whl
# The two dependencies, and what cryptography itself needs, as they are installed here: no registry is asked.
packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
cp -r "$packages"/{cryptography,msgspec,_cffi_backend}* "$("$work/empty/bin/python" -c \
    'import sysconfig; print(sysconfig.get_path("platlib"))')"
if "$work/empty/bin/python" -c 'import oracle' 2>/dev/null; then fail "the environment holds the service"; fi
ls "$work"/empty/lib/python*/site-packages | grep -v __pycache__ | sed 's/^/  /'
mkdir "$work/elsewhere"
cp -r export later kept log.vkey proof.json "$work/elsewhere"
cd "$work/elsewhere"
who=elsewhere

step "The proof and the exports, with the files, the key and the checkpoint"
verify proof proof.json --key log.vkey --checkpoint kept | tee found
expect '^VERIFIED: ' found
if grep -q $phone found; then fail "the identifier is shown, and nobody asked for it"; fi
verify proof proof.json --key log.vkey --show | grep "^party_identifier  *$phone$"
verify export export later --key log.vkey --checkpoint kept | tee found
expect '^VERIFIED: ' found

step "Without a key and a checkpoint nothing is verified: anybody can make such files with a key of their own"
if verify proof proof.json > found; then fail "a proof that only confirms itself was verified"; fi
cat found
expect '^NOT VERIFIED: no error was found' found

step "Somebody writes another FSP into that line and into the proof: the check finds both"
sed -i "/\"event_id\":$event,/s/greenbank/redbank/g" export/events.ndjson
if verify export export later --key log.vkey --checkpoint kept > found; then fail "the change was not found"; fi
cat found
expect "event $event" found
sed -i 's/greenbank/redbank/g' proof.json
if verify proof proof.json --key log.vkey > found; then fail "the change was not found"; fi
cat found
expect "altered: the line of event $event" found
