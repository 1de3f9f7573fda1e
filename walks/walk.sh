#!/usr/bin/env bash
# The first day of an oracle, as its people live it: an operator, then the maker and the checker of an FSP, then a maker
# of another FSP who tries to read what is not theirs.  It uses the command line and curl, against an oracle that
# `make run` starts on free ports in a new directory.  At the end both are removed (KEEP=1 keeps the directory).
#
#     walks/walk.sh                        1,000,000 aliases from a file with 1,000 bad rows of ten sorts
#     ROWS=5000 BAD=100 walks/walk.sh      the same, smaller
#
# It exits with 0 only if everything is as expected.  It needs bash, curl and make; `make run` installs what is missing.
# With ORACLE_BIN= or PYTHON= it starts that installed oracle, without make.
set -euo pipefail

ROWS=${ROWS:-1000000}
BAD=${BAD:-1000}
top=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${ORACLE_BIN:-}${PYTHON:-}" ]; then run=(make --no-print-directory -C "$top" run); else run=(); fi
PYTHON=${PYTHON:-$top/.venv/bin/python}
ORACLE_BIN=${ORACLE_BIN:-$(dirname "$PYTHON")/oracle}
[ ${#run[@]} -gt 0 ] || run=("$ORACLE_BIN" serve)
export -n ORACLE_BIN  # it is a setting of this script, not of the oracle
export PYTHONPATH=$top

# Remove the settings of the person who runs this.
for name in $(compgen -e ORACLE_ | grep -v '^ORACLE_BIN$' || true); do unset "$name"; done

work=$(mktemp -d "${TMPDIR:-/tmp}/walk.XXXXXX")
serve=
finish() {
    code=$?
    trap - EXIT INT TERM
    if [ -n "$serve" ] && kill "$serve" 2>/dev/null; then wait "$serve" 2>/dev/null || true; fi
    if [ $code -ne 0 ] && [ -f "$work/serve.log" ]; then tail -n 20 "$work/serve.log" | sed 's/aok_[^ ]*/aok_…/' >&2; fi
    if [ -z "${KEEP:-}" ]; then rm -rf "$work"; else echo "kept: $work"; fi
    [ $code -eq 0 ] && echo "walk: everything is as expected" || echo "walk: FAILED" >&2
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM
cd "$work"

# Print and check -----------------------------------------------------------------------------------------------------

step() { printf '\n# %s\n' "$*"; }
fail() { echo "walk: $*" >&2; exit 1; }
who=operator
as() { who=$1; export ORACLE_KEY_FILE=$work/$1.key; }
oracle() { printf '%s$ oracle%s\n' "$who" "$(printf ' %q' "$@")" >&2; "$ORACLE_BIN" "$@"; }
# Everybody on the machine can read a command line, so curl reads the key from a file.
api() {
    printf '%s$ curl -X%s\n' "$who" "$(printf ' %q' "$@")" >&2
    local method=$1 path=$2; shift 2
    printf 'Authorization: Bearer %s\n' "$(cat "$ORACLE_KEY_FILE")" > "$work/header"
    status=$(curl -sS -o body -D headers -w '%{http_code}' -H @"$work/header" -H 'Content-Type: application/json' \
        -X "$method" "$@" "$ORACLE_ADMIN_URL/admin/v1$path")
}
expect() { [ "$status" = "$1" ] || fail "status $status, not $1: $(cat body)"; echo "  $status $(head -c 200 body)"; }
header() { tr -d '\r' < headers | sed -n "s/^$1: //Ip"; }
# Run a command that must fail with this code in its one line.
expect_refusal() {
    local code=$1; shift
    if oracle "$@" > out 2> err; then fail "this was not refused: oracle $*"; fi
    sed '/\$ oracle /!s/^/  /' err
    grep -q "($code)" err || fail "the refusal is not $code"
}
# member FILE NAME: print a member of a JSON object
member() { "$PYTHON" -c 'import json, sys; v = json.load(open(sys.argv[1]))
for name in sys.argv[2].split("."): v = v[name]
print(v)' "$1" "$2"; }

# ---------------------------------------------------------------------------------------------------------------------

step "Start from nothing: \`make run\`, on free ports"
export ORACLE_DATA_DIR=$work/data
printf '$ %s\n' "${run[*]##*/}"
ORACLE_HUB_PORT=0 ORACLE_ADMIN_PORT=0 ORACLE_LOG_FORMAT=text MAKEFLAGS='' MAKELEVEL='' "${run[@]}" > serve.log 2>&1 &
serve=$!
for _ in $(seq 6000); do  # at most ten minutes: the first run installs
    grep -q '^If there is no operator yet' serve.log && break
    kill -0 "$serve" 2>/dev/null || fail "serve ended too early"
    sleep 0.1
done
hub=$(sed -n 's/^  hub  *\(http:.*\)$/\1/p' serve.log)
ORACLE_ADMIN_URL=$(sed -n 's/^  admin  *\(http:.*\)$/\1/p' serve.log)
export ORACLE_ADMIN_URL
[ -n "$hub" ] && [ -n "$ORACLE_ADMIN_URL" ] || fail "serve printed no addresses"
echo "  hub $hub, admin $ORACLE_ADMIN_URL"

step "The operator creates the first key, saves it, and creates two FSPs"
! grep -q aok_ serve.log || fail "serve wrote a key into a file"
oracle key bootstrap --out operator.key
export XDG_CONFIG_HOME=$work/config
oracle key save < operator.key
oracle key me
oracle key forget
as operator
oracle fsp create greenbank --name "Green Bank" --locale-name "Banco Verde" --currencies MXN,MMK --two-persons \
    --contact-name Ana | sed -n 's/^/  /; /fspId\|twoPersons\|version/p'

body='{"fspId":"redbank","name":"Red Bank","useCases":["p2p"]}'
api POST /fsps -H 'Idempotency-Key: walk-1' -d "$body"; expect 201; cp body first
api POST /fsps -H 'Idempotency-Key: walk-1' -d "$body"; expect 201
cmp -s body first || fail "the repeated call has another answer"
[ "$(header idempotency-replayed)" = true ] || fail "the repeated call was not recognised"
api POST /fsps -H 'Idempotency-Key: walk-1' -d '{"fspId":"bluebank"}'; expect 409

api GET /fsps/redbank; expect 200; version=$(header etag)
api PATCH /fsps/redbank -H "If-Match: $version" -d '{"localeName":"Banco Rojo"}'; expect 200
api PATCH /fsps/redbank -H "If-Match: $version" -d '{"localeName":"too late"}'; expect 412
oracle fsp list

step "Issue keys to a maker, a checker and a reader of greenbank and a maker of redbank, and show none"
for role in maker checker; do
    oracle key issue --role dfsp-$role --fsp greenbank --label "$role of greenbank" --expires 90d --out $role.key \
        | sed -n '/role\|expires/s/^/  /p'
done
oracle key issue --role reader --fsp greenbank --label reports --out reader.key | sed -n '/role/s/^/  /p'
oracle key issue --role dfsp-maker --fsp redbank --label "maker of redbank" --out stranger.key | sed -n '/role/s/^/  /p'
[ "$(stat -c %a maker.key)" = 600 ] || fail "other users can read the key file"

step "The maker registers one alias of each kind; each waits for the checker"
as maker
oracle key me
while read -r kind identifier rest; do
    # shellcheck disable=SC2086 # options, if any
    oracle alias add "$kind" "$identifier" $rest 2> err | tee -a asked | sed 's/^/  /'
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
sed 's/^/  /' err
expect_refusal bad_identifier alias add CLABE 032180000118359710
[ "$(oracle alias list | wc -l)" = 0 ] || fail "an alias is registered without a second person"
as checker
# shellcheck disable=SC2046 # numbers
oracle batch approve $(sed -n 's/^batch \([0-9]*\) waits .*/\1/p' asked) > out
[ "$(grep -c '^batch [0-9]* done: one alias: ' out)" = 10 ] || fail "not all ten changes are made"
as maker
expect_refusal forbidden fsp create mybank
[ "$(oracle alias list | wc -l)" = 10 ] || fail "the list does not have ten aliases"
api GET /fsps/greenbank/aliases/NRC/12%2FOUKAMA%28N%29123456; expect 200

step "The maker of redbank imports a file; redbank needs no second person"
"$PYTHON" -m walks.walk make . --rows "$ROWS" --bad "$BAD"
as stranger
oracle import theirs.csv --wait

step "The maker of greenbank uploads $ROWS rows; $BAD of them are bad"
as maker
ls -l ours.csv | awk '{print "  " $5 " bytes"}'
oracle import ours.csv --note "our customers" --json > waiting.json
batch=$(member waiting.json batchId)
[ "$(member waiting.json state)" = waiting ] || fail "the batch does not wait for a second person"
[ "$(member waiting.json rows.read)" = "$ROWS" ] || fail "not all rows were read"
expect_refusal forbidden batch approve "$batch"

step "The checker looks at the file and approves it"
as checker
oracle batch list --state waiting
oracle batch results "$batch" --failed | sed -n '1,4s/^/  /p'
oracle batch approve "$batch" --reason "checked against the branch list" | sed -n '/^\(state\|decided\)/s/^/  /p'

step "The maker waits for the end: bad rows make the command fail, so that scripts notice"
as maker
if oracle batch watch "$batch" > out 2> err; then fail "the command succeeded in spite of bad rows"; fi
sed '/\$ oracle /!s/^/  /' err out
oracle batch show "$batch" --json > done.json
[ "$(member done.json state)" = done ] || fail "the batch is not done"
[ "$(member done.json rows.failed)" = "$BAD" ] || fail "the number of failed rows is not the number of bad rows"

step "Every row has a line in the results, and every bad row has a reason"
oracle batch results "$batch" --out results.csv
"$PYTHON" -m walks.walk check results.csv --rows "$ROWS" --bad "$BAD" || fail "the results are not as expected"
oracle batch results "$batch" --failed --out failed.csv
[ "$(($(wc -l < failed.csv) - 1))" = "$BAD" ] || fail "the list of failed rows is not complete"

step "The hub looks up samples"
count=0
while read -r fsp target; do
    curl -sS -H 'fspiop-source: hub' "$hub$target" > body
    if [ "$fsp" = - ]; then grep -q '"partyList":\[\]' body; else grep -q "\"fspId\":\"$fsp\"" body; fi \
        || fail "expected $fsp: $target: $(cat body)"
    count=$((count + 1))
done < <("$PYTHON" -m walks.walk samples --rows "$ROWS" --bad "$BAD")
echo "  $count lookups; each found the expected FSP"

step "The maker of redbank sees nothing of it"
as stranger
api GET /fsps/greenbank/batches/"$batch"; expect 403
api GET /fsps/redbank/batches/"$batch"; expect 404
api GET /fsps/greenbank/aliases/MSISDN/529981234567; expect 403
api GET /fsps/redbank/aliases/MSISDN/529981234567; expect 404
expect_refusal foreign alias list --fsp greenbank
expect_refusal not_found alias remove MSISDN +529981234567 --reason fraud
expect_refusal not_found batch results "$batch"
oracle alias check MSISDN +529981234567 | grep -q '	no	' || fail "redbank learns what greenbank has registered"

step "The operator finds the FSP of a number and the calls that were refused, and suspends an FSP for a while"
as operator
oracle alias lookup MSISDN +529981234567
oracle key refused --limit 3
oracle fsp suspend greenbank --reason "a drill" | sed -n '/^status/s/^/  /p'
curl -sS -H 'fspiop-source: hub' "$hub/participants/MSISDN/529981234567" | tee body; echo
grep -q '"partyList":\[\]' body || fail "a lookup finds a suspended FSP"
oracle fsp activate greenbank --reason "the drill is over" | sed -n '/^status/s/^/  /p'
curl -sS -H 'fspiop-source: hub' "$hub/participants/MSISDN/529981234567" | tee body; echo
grep -q '"fspId":"greenbank"' body || fail "a lookup does not find an active FSP"

step "A route answers for identifiers that nobody has registered; its overlaps are shown first"
oracle route add CLABE 646180 --fsp redbank --note "all accounts of a bank" | sed -n '/^\(prefix\|fspId\)/s/^/  /p'
if oracle route add CLABE 64618011 --fsp greenbank > out 2> err; then fail "the overlap was not shown first"; fi
sed '/\$ oracle /!s/^/  /' err
oracle route add CLABE 64618011 --fsp greenbank --yes | sed -n '/^\(prefix\|fspId\)/s/^/  /p'
oracle route what-if CLABE 646180110400000007
curl -sS -H 'fspiop-source: hub' "$hub/participants/ACCOUNT_ID/646180110400000007" | tee body; echo
grep -q '"fspId":"greenbank"' body || fail "the longest route is not the answer"

step "Figures"
"$PYTHON" -m walks.walk figures < done.json
