#!/usr/bin/env bash
# The first day of an oracle, as its people would do it: an operator, then the maker and the checker of an FSP, then
# somebody of another FSP who looks where nothing is theirs.  By the command line and by curl, against what `make run`
# starts from nothing, on free ports and in a directory of its own; both are gone afterwards (KEEP=1 keeps the directory).
#
#     walks/walk.sh                        1,000,000 aliases from a file with 1,000 bad rows of ten kinds
#     ROWS=5000 BAD=100 walks/walk.sh      the same, smaller
#
# Exit 0 only if everything was as it has to be.  Needs bash, curl and make; `make run` installs what is not there yet.
# With an installed one (ORACLE_BIN=, PYTHON=) it is that which serves, without make.
set -euo pipefail

ROWS=${ROWS:-1000000}
BAD=${BAD:-1000}
top=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${ORACLE_BIN:-}${PYTHON:-}" ]; then run=(make --no-print-directory -C "$top" run); else run=(); fi
PYTHON=${PYTHON:-$top/.venv/bin/python}
ORACLE_BIN=${ORACLE_BIN:-$(dirname "$PYTHON")/oracle}
[ ${#run[@]} -gt 0 ] || run=("$ORACLE_BIN" serve)
export PYTHONPATH=$top

# Settings of whoever runs this are not ours.
for name in $(compgen -e ORACLE_ | grep -v '^ORACLE_BIN$' || true); do unset "$name"; done

work=$(mktemp -d "${TMPDIR:-/tmp}/walk.XXXXXX")
serve=
finish() {
    code=$?
    trap - EXIT INT TERM
    if [ -n "$serve" ] && kill "$serve" 2>/dev/null; then wait "$serve" 2>/dev/null || true; fi
    if [ $code -ne 0 ] && [ -f "$work/serve.log" ]; then tail -n 20 "$work/serve.log" | sed 's/aok_[^ ]*/aok_…/' >&2; fi
    if [ -z "${KEEP:-}" ]; then rm -rf "$work"; else echo "kept: $work"; fi
    [ $code -eq 0 ] && echo "walk: everything was as it has to be" || echo "walk: FAILED" >&2
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM
cd "$work"

# How it is told and checked ------------------------------------------------------------------------------------------

step() { printf '\n# %s\n' "$*"; }
fail() { echo "walk: $*" >&2; exit 1; }
who=operator
as() { who=$1; export ORACLE_KEY_FILE=$work/$1.key; }
oracle() { printf '%s$ oracle%s\n' "$who" "$(printf ' %q' "$@")" >&2; "$ORACLE_BIN" "$@"; }
# A key on a command line could be read by everybody on the machine; curl takes the header from a file.
api() {
    printf '%s$ curl -X%s\n' "$who" "$(printf ' %q' "$@")" >&2
    local method=$1 path=$2; shift 2
    printf 'Authorization: Bearer %s\n' "$(cat "$ORACLE_KEY_FILE")" > "$work/header"
    status=$(curl -sS -o body -D headers -w '%{http_code}' -H @"$work/header" -H 'Content-Type: application/json' \
        -X "$method" "$@" "$ORACLE_ADMIN_URL/admin/v1$path")
}
expect() { [ "$status" = "$1" ] || fail "status $status, not $1: $(cat body)"; echo "  $status $(head -c 200 body)"; }
header() { tr -d '\r' < headers | sed -n "s/^$1: //Ip"; }
# A command that has to be refused, with this code in its one line.
refused() {
    local code=$1; shift
    if oracle "$@" > out 2> err; then fail "it was not refused: oracle $*"; fi
    sed '/\$ oracle /!s/^/  /' err
    grep -q "($code)" err || fail "not refused as $code"
}
# member FILE NAME: of a JSON object
member() { "$PYTHON" -c 'import json, sys; v = json.load(open(sys.argv[1]))
for name in sys.argv[2].split("."): v = v[name]
print(v)' "$1" "$2"; }

# ---------------------------------------------------------------------------------------------------------------------

step "From nothing: \`make run\`, on free ports"
export ORACLE_DATA_DIR=$work/data
printf '$ %s\n' "${run[*]##*/}"
ORACLE_HUB_PORT=0 ORACLE_ADMIN_PORT=0 ORACLE_LOG_FORMAT=text MAKEFLAGS='' MAKELEVEL='' "${run[@]}" > serve.log 2>&1 &
serve=$!
for _ in $(seq 6000); do  # ten minutes: the first time it installs
    grep -q '^  aok_' serve.log && break
    kill -0 "$serve" 2>/dev/null || fail "serve ended"
    sleep 0.1
done
hub=$(sed -n 's/^  hub  *\(http:.*\)$/\1/p' serve.log)
ORACLE_ADMIN_URL=$(sed -n 's/^  admin  *\(http:.*\)$/\1/p' serve.log)
export ORACLE_ADMIN_URL
[ -n "$hub" ] && [ -n "$ORACLE_ADMIN_URL" ] || fail "it is not ready"
echo "  hub $hub, admin $ORACLE_ADMIN_URL"

step "The operator keeps the key that was shown, and lets two FSPs in"
as operator
sed -n 's/^  \(aok_.*\)$/\1/p' serve.log | oracle key save
oracle key me
oracle fsp create greenbank --name "Green Bank" --locale-name "Banco Verde" --currencies MXN,MMK --two-persons \
    --contact-name Ana | sed -n 's/^/  /; /fspId\|twoPersons\|version/p'

body='{"fspId":"redbank","name":"Red Bank","useCases":["p2p"]}'
api POST /fsps -H 'Idempotency-Key: walk-1' -d "$body"; expect 201; cp body first
api POST /fsps -H 'Idempotency-Key: walk-1' -d "$body"; expect 201
cmp -s body first || fail "the same call was answered differently"
[ "$(header idempotency-replayed)" = true ] || fail "it was done twice"
api POST /fsps -H 'Idempotency-Key: walk-1' -d '{"fspId":"bluebank"}'; expect 409

api GET /fsps/redbank; expect 200; version=$(header etag)
api PATCH /fsps/redbank -H "If-Match: $version" -d '{"localeName":"Banco Rojo"}'; expect 200
api PATCH /fsps/redbank -H "If-Match: $version" -d '{"localeName":"too late"}'; expect 412
oracle fsp list

step "Keys: a maker, a checker and a reader of greenbank, a maker of redbank; none is shown"
for role in maker checker; do
    oracle key issue --role dfsp-$role --fsp greenbank --label "$role of greenbank" --expires 90d --out $role.key \
        | sed -n '/role\|expires/s/^/  /p'
done
oracle key issue --role reader --fsp greenbank --label reports --out reader.key | sed -n '/role/s/^/  /p'
oracle key issue --role dfsp-maker --fsp redbank --label "maker of redbank" --out stranger.key | sed -n '/role/s/^/  /p'
[ "$(stat -c %a maker.key)" = 600 ] || fail "others can read the key"

step "The maker registers one of each kind"
as maker
oracle key me
while read -r kind identifier rest; do
    # shellcheck disable=SC2086 # options, if any
    oracle alias add "$kind" "$identifier" $rest | sed -n '/^\(identifier\|display.text\|state\)/s/^/  /p'
done <<'ALIASES'
MSISDN +529981234567 --currency MXN
CLABE 032180000118359719 --currency MXN
NRC 12/OUKAMA(N)123456
IBAN GB82WEST12345698765432
ACCOUNT_ID 000000356 --sub savings
EMAIL ana@bank.example
PERSONAL_ID MA123456 --sub PASSPORT
BUSINESS tienda-7 --currency MXN
DEVICE 356938035643809
ALIAS @ana
ALIASES
refused bad_identifier alias add CLABE 032180000118359710
refused forbidden fsp create mybank
[ "$(oracle alias list | wc -l)" = 10 ] || fail "not ten aliases"
api GET /fsps/greenbank/aliases/NRC/12%2FOUKAMA%28N%29123456; expect 200

step "redbank's maker has a file too: no second person is asked for there"
"$PYTHON" -m walks.walk make . --rows "$ROWS" --bad "$BAD"
as stranger
oracle import theirs.csv --wait

step "greenbank's maker uploads $ROWS rows, $BAD of them bad"
as maker
ls -l ours.csv | awk '{print "  " $5 " bytes"}'
oracle import ours.csv --note "our customers" --json > waiting.json
batch=$(member waiting.json batchId)
[ "$(member waiting.json state)" = waiting ] || fail "it does not wait for a second person"
[ "$(member waiting.json rows.read)" = "$ROWS" ] || fail "not all rows were read"
refused forbidden batch approve "$batch"

step "The checker looks at it and lets it in"
as checker
oracle batch list --state waiting
oracle batch results "$batch" --failed | sed -n '1,4s/^/  /p'
oracle batch approve "$batch" --reason "checked against the branch list" | sed -n '/^\(state\|decided\)/s/^/  /p'

step "The maker waits for the end: bad rows make the command fail, for scripts to notice"
as maker
if oracle batch watch "$batch" > out 2> err; then fail "bad rows went unnoticed"; fi
sed '/\$ oracle /!s/^/  /' err out
oracle batch show "$batch" --json > done.json
[ "$(member done.json state)" = done ] || fail "the batch is not done"
[ "$(member done.json rows.failed)" = "$BAD" ] || fail "not as many failed as are bad"

step "Every row has a line in the results, and every bad one a reason"
oracle batch results "$batch" --out results.csv
"$PYTHON" -m walks.walk check results.csv --rows "$ROWS" --bad "$BAD" || fail "the results are not as they have to be"
oracle batch results "$batch" --failed --out failed.csv
[ "$(($(wc -l < failed.csv) - 1))" = "$BAD" ] || fail "the list of failed rows is not all of them"

step "The hub asks"
count=0
while read -r fsp target; do
    curl -sS -H 'fspiop-source: hub' "$hub$target" > body
    if [ "$fsp" = - ]; then grep -q '"partyList":\[\]' body; else grep -q "\"fspId\":\"$fsp\"" body; fi \
        || fail "not $fsp: $target: $(cat body)"
    count=$((count + 1))
done < <("$PYTHON" -m walks.walk samples --rows "$ROWS" --bad "$BAD")
echo "  $count lookups, each answered with the FSP it has to be"

step "redbank's maker sees nothing of it"
as stranger
api GET /fsps/greenbank/batches/"$batch"; expect 403
api GET /fsps/redbank/batches/"$batch"; expect 404
api GET /fsps/greenbank/aliases/MSISDN/529981234567; expect 403
api GET /fsps/redbank/aliases/MSISDN/529981234567; expect 404
refused foreign alias list --fsp greenbank
refused not_found alias remove MSISDN +529981234567 --reason fraud
refused not_found batch results "$batch"
oracle alias check MSISDN +529981234567 | grep -q '	no	' || fail "it learns what greenbank has"

step "The operator can say whose it is, and why; and sees who tried"
as operator
oracle alias lookup MSISDN +529981234567
oracle key refused --limit 3
oracle fsp suspend greenbank --reason "a drill" | sed -n '/^status/s/^/  /p'
curl -sS -H 'fspiop-source: hub' "$hub/participants/MSISDN/529981234567" | tee body; echo
grep -q '"partyList":\[\]' body || fail "a suspended FSP is answered"
oracle fsp activate greenbank --reason "the drill is over" | sed -n '/^status/s/^/  /p'
curl -sS -H 'fspiop-source: hub' "$hub/participants/MSISDN/529981234567" | tee body; echo
grep -q '"fspId":"greenbank"' body || fail "an active FSP is not answered"

step "A rule answers what nobody has registered: shown among the others first, and explained"
oracle route add CLABE 646180 --fsp redbank --note "all of a bank" | sed -n '/^\(prefix\|fspId\)/s/^/  /p'
if oracle route add CLABE 64618011 --fsp greenbank > out 2> err; then fail "it was not shown first"; fi
sed '/\$ oracle /!s/^/  /' err
oracle route add CLABE 64618011 --fsp greenbank --yes | sed -n '/^\(prefix\|fspId\)/s/^/  /p'
oracle route what-if CLABE 646180110400000007
curl -sS -H 'fspiop-source: hub' "$hub/participants/ACCOUNT_ID/646180110400000007" | tee body; echo
grep -q '"fspId":"greenbank"' body || fail "the longest rule does not answer"

step "Figures"
"$PYTHON" -m walks.walk figures < done.json
